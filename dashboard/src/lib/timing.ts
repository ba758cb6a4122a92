/** Marks for measuring the page: `first-view`, and `planet-change` from the click to what is drawn. */

function afterPaint(done: () => void): void {
  requestAnimationFrame(() => setTimeout(done));
}

let shown = false;

/** Called by every panel that has settled; the first time that none is loading, the view is drawn. */
export function panelSettled(): void {
  if (shown) return;
  afterPaint(() => {
    if (shown || document.querySelector('[data-state="loading"]')) return;
    shown = true;
    performance.mark("first-view");
    document.getElementById("root")?.setAttribute("data-ready", "");
  });
}

export function planetAsked(): void {
  performance.mark("planet-asked");
}

export function planetDrawn(): void {
  if (!performance.getEntriesByName("planet-asked").length) return;
  afterPaint(() => {
    if (!performance.getEntriesByName("planet-asked").length) return;
    performance.measure("planet-change", "planet-asked");
    performance.clearMarks("planet-asked");
  });
}
