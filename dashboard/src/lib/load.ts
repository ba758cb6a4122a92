/** Answers of the API: embedded in the page if they are there, otherwise from the server that the page came from. */
import type { Answers, Missing, Panel } from "../api";
import { plural } from "./format";

export type Loaded<T> =
  | { state: "loading" }
  | { state: "ready"; data: T }
  | { state: "missing"; missing: Missing }
  | { state: "error"; message: string };

export type Path = keyof Answers & string;
export type DataOf<P extends Path> = Answers[P] extends Panel<infer T> ? T : Answers[P];

const PLANETS_KEPT = 80; // and frames of planets, one by one
export const served = /^https?:$/.test(location.protocol);
const settled = new Map<string, Loaded<unknown>>();
const underway = new Map<string, Promise<Loaded<unknown>>>();
let embedded: Map<string, HTMLScriptElement> | undefined;

function scriptOf(path: string): HTMLScriptElement | undefined {
  embedded ??= new Map(
    [...document.querySelectorAll<HTMLScriptElement>('script[type="application/gzip"][data-path]')].map((script) => [script.dataset.path ?? "", script]),
  );
  return embedded.get(path);
}

async function decoded(base64: string): Promise<unknown> {
  const letters = atob(base64.trim());
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

async function fetched(path: string): Promise<unknown> {
  const response = await fetch(path);
  if (response.ok) return response.json();
  const reason: unknown = await response.json().catch(() => null);
  const detail = reason && typeof reason === "object" && "detail" in reason ? reason.detail : response.statusText;
  throw new Error(`the server answers ${response.status}: ${typeof detail === "string" ? detail : JSON.stringify(detail)}`);
}

async function leftOut(): Promise<Missing> {
  const [planets, overview] = await Promise.all([load("api/planets"), load("api/overview")]);
  const detailed = planets.state === "ready" ? planets.data.filter((row) => row.detailed).length : 0;
  const run = overview.state === "ready" ? overview.data.run : "<run>";
  return { what: `is left out of this page, which holds ${plural(detailed, "planet")} in detail`, command: `spectramind diagnose serve --run ${run}` };
}

async function answer(path: string): Promise<Loaded<unknown>> {
  const script = scriptOf(path);
  try {
    if (!script && !served) {
      const itself = path === "api/planets" || path === "api/overview";
      const missing = itself ? { what: "is left out of this page", command: "spectramind diagnose serve --run <run>" } : await leftOut();
      return { state: "missing", missing };
    }
    const body = script ? await decoded(script.textContent ?? "") : await fetched(path);
    return fromPanel(body);
  } catch (error) {
    if (script) return { state: "error", message: `The page's copy of ${path} is damaged.` };
    return { state: "error", message: `${path} can't be had: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function isPanel(body: unknown): body is Panel<unknown> {
  return typeof body === "object" && body !== null && Object.keys(body).every((key) => key === "data" || key === "missing");
}

function fromPanel(body: unknown): Loaded<unknown> {
  if (isPanel(body)) return panelState(body);
  return body == null ? { state: "error", message: "The answer is empty." } : { state: "ready", data: body };
}

/** A panel's data, or what it says is missing. */
export function panelState<T>(panel: Panel<T> | null | undefined): Loaded<T> {
  if (panel?.data != null) return { state: "ready", data: panel.data };
  if (panel?.missing) return { state: "missing", missing: panel.missing };
  return { state: "error", message: "The answer holds neither data nor why there are none." };
}

/** A panel within an answer, which is missing by itself or with it. */
export function part<D, T>(whole: Loaded<D>, pick: (data: D) => Panel<T>): Loaded<T> {
  return whole.state === "ready" ? panelState(pick(whole.data)) : whole;
}

function keep(path: string, result: Loaded<unknown>): void {
  settled.delete(path);
  settled.set(path, result);
  const planets = [...settled.keys()].filter((key) => key.startsWith("api/planets/"));
  for (const key of planets.slice(0, Math.max(0, planets.length - PLANETS_KEPT))) settled.delete(key);
}

/** The answer if it is at hand already. */
export function atHand<P extends Path>(path: P): Loaded<DataOf<P>> | undefined {
  return settled.get(path) as Loaded<DataOf<P>> | undefined;
}

/** What the path answers; never throws. */
export function load<P extends Path>(path: P): Promise<Loaded<DataOf<P>>> {
  const known = settled.get(path);
  if (known) {
    keep(path, known);
    return Promise.resolve(known as Loaded<DataOf<P>>);
  }
  let request = underway.get(path);
  if (!request) {
    request = answer(path).then((result) => {
      underway.delete(path);
      if (result.state !== "error" || !served) keep(path, result);
      return result;
    });
    underway.set(path, request);
  }
  return request as Promise<Loaded<DataOf<P>>>;
}
