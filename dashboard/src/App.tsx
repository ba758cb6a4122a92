import { useEffect, useRef, type ReactNode } from "react";
import { Boundary } from "./components/Boundary";
import { Status } from "./components/Status";
import { View } from "./components/View";
import { BandsContext } from "./lib/bands";
import { useRoute } from "./lib/route";
import { chooseTheme, useTheme } from "./lib/theme";
import { useLoaded } from "./lib/use-loaded";
import { AttributionView } from "./views/AttributionView";
import { CalibrationView } from "./views/CalibrationView";
import { LatentsView } from "./views/LatentsView";
import { LogView } from "./views/LogView";
import { OodView } from "./views/OodView";
import { OverviewView } from "./views/OverviewView";
import { PlanetsView } from "./views/PlanetsView";
import { ResidualsView } from "./views/ResidualsView";
import { RunsView } from "./views/RunsView";

const VIEWS: { path: string; name: string; draw: (id?: number) => ReactNode }[] = [
  { path: "overview", name: "Overview", draw: () => <OverviewView /> },
  { path: "planets", name: "Planets", draw: (id) => <PlanetsView id={id} /> },
  { path: "latents", name: "Latents", draw: () => <LatentsView /> },
  { path: "attribution", name: "Attribution", draw: () => <AttributionView /> },
  { path: "residuals", name: "Residuals", draw: () => <ResidualsView /> },
  { path: "calibration", name: "Calibration", draw: () => <CalibrationView /> },
  { path: "ood", name: "Out of distribution", draw: () => <OodView /> },
  { path: "runs", name: "Runs", draw: () => <RunsView /> },
  { path: "log", name: "Log", draw: () => <LogView /> },
];

export function App() {
  const { view, id } = useRoute();
  const bands = useLoaded("api/bands");
  const current = VIEWS.find(({ path }) => path === view);
  const main = useRef<HTMLElement>(null);
  const here = useRef<HTMLAnchorElement>(null);
  const shown = useRef(view);
  useEffect(() => {
    here.current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [view]);
  useEffect(() => {
    if (shown.current === view) return;
    shown.current = view;
    scrollTo(0, 0);
    main.current?.querySelector("h1")?.focus({ preventScroll: true });
  }, [view]);
  return (
    <BandsContext.Provider value={bands}>
      <a href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }} className="sr-only rounded bg-card px-3 py-2 focus:not-sr-only focus:absolute focus:left-3 focus:top-3 focus:z-30">
        Skip to the content
      </a>
      <header className="sticky top-0 z-20 border-b border-line bg-card">
        <div className="mx-auto max-w-[92rem] px-4 sm:px-6">
          <Brand />
          <nav aria-label="Views" className="-mx-1 overflow-x-auto">
            <ul className="flex gap-1">
              {VIEWS.map(({ path, name }) => (
                <li key={path}>
                  <a
                    ref={path === view ? here : undefined}
                    href={`#/${path}`}
                    aria-current={path === view ? "page" : undefined}
                    className={`block whitespace-nowrap border-b-2 px-2.5 py-2.5 -outline-offset-2 hover:no-underline ${path === view ? "border-accent font-semibold text-accent" : "border-transparent text-muted hover:text-ink"}`}
                  >
                    {name}
                  </a>
                </li>
              ))}
            </ul>
          </nav>
        </div>
      </header>
      <main ref={main} id="main" tabIndex={-1} className="mx-auto max-w-[92rem] px-4 py-6 sm:px-6">
        <Boundary data={view}>{bands.state !== "loading" && (current ? current.draw(id) : <NoView />)}</Boundary>
      </main>
    </BandsContext.Provider>
  );
}

function NoView() {
  return <View title="No such view" lead={<>This address leads nowhere. The <a href="#/overview">overview</a> is a good start.</>}>{null}</View>;
}

function Brand() {
  const overview = useLoaded("api/overview");
  const run = overview.state === "ready" ? overview.data.run : undefined;
  useEffect(() => {
    if (run) document.title = run;
  }, [run]);
  return (
    <div className="flex items-center justify-between gap-3 pt-3">
      <div className="flex min-w-0 items-center gap-3">
        <TransitMark />
        <p className="min-w-0 truncate">
          <span className="hidden font-semibold text-ink sm:inline">SpectraMind </span><span className="font-semibold text-ink sm:font-normal sm:text-muted">{run}</span>
        </p>
        {overview.state === "ready" && overview.data.simulated && <Status text="simulated" />}
      </div>
      <ThemeSwitch />
    </div>
  );
}

/** A transit's light curve. */
function TransitMark() {
  return (
    <svg aria-hidden width={30} height={22} viewBox="0 0 30 22" className="shrink-0">
      <path d="M1 4h7c2 0 2 13 4 13h6c2 0 2-13 4-13h7" fill="none" stroke="var(--accent)" strokeWidth={2.4} strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}

function ThemeSwitch() {
  const theme = useTheme();
  const other = theme === "dark" ? "light" : "dark";
  return (
    <button type="button" className="button shrink-0" onClick={() => chooseTheme(other)} data-testid="theme">
      {other === "dark" ? "Dark" : "Light"} theme
    </button>
  );
}
