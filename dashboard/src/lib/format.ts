/** Numbers as people read them; what isn't known is a dash. */
import { formatLocale } from "d3-format";

const locale = formatLocale({ decimal: ".", thousands: "\u2009", grouping: [3], currency: ["", ""] });
const DASH = "–";

type Maybe = number | null | undefined;

function formatter(specifier: string): (value: Maybe) => string {
  const format = locale.format(specifier);
  return (value) => (value == null || !Number.isFinite(value) ? DASH : format(value));
}

export const count = formatter(",d");
export const fixed1 = formatter(",.1f");
export const fixed2 = formatter(",.2f");
export const fixed3 = formatter(",.3f");
export const percent = formatter(".1%");
/** A percentage without needless decimals. */
export const share = formatter(",.1~%");
export const tick = formatter(",");
const whole = formatter(",.0f");

/** Parts per million (or kelvin): no more digits than matter. */
export function ppm(value: Maybe): string {
  const size = Math.abs(value ?? 0);
  return size >= 100 ? whole(value) : size >= 10 ? fixed1(value) : fixed2(value);
}

export function withUnit(text: string, unit: string): string {
  return text === DASH ? text : `${text}\u00a0${unit}`;
}

export function duration(seconds: Maybe): string {
  if (seconds == null) return DASH;
  if (seconds < 1) return `${Math.round(seconds * 1000)}\u00a0ms`;
  if (seconds < 60) return `${fixed1(seconds)}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}\u00a0min ${Math.round(seconds % 60)}\u00a0s`;
  return `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}

/** A time as ISO without the noise: 2026-03-04 05:06, UTC. */
export function moment(iso: string): string {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? iso : at.toISOString().slice(0, 16).replace("T", " ");
}

/** A count with its noun, in the singular for one. */
export function plural(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** "02_transit" -> "02 transit" */
export function spaced(name: string): string {
  return name.replaceAll("_", " ");
}

/** "H2O band" -> "H₂O band"; FGS1 and AIRS-CH0 are no molecules. */
export function formula(name: string): string {
  return name.replace(/\b[CHNOS]+[2-9][CHNOS2-9]*\b/g, (molecule) => molecule.replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]));
}
