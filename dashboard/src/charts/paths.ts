/** SVG paths from lists of pixels. */
import { area, line } from "d3-shape";

type Maybe = number | null | undefined;
const known = (value: Maybe): value is number => value != null && Number.isFinite(value);

/** A line, broken where a value isn't known. */
export function linePath(xs: number[], ys: Maybe[]): string {
  return line<number>().defined((i) => known(ys[i])).x((i) => xs[i]).y((i) => ys[i] ?? 0).digits(1)(xs.map((_, i) => i)) ?? "";
}

export function areaPath(xs: number[], low: Maybe[], high: Maybe[]): string {
  return area<number>().defined((i) => known(low[i]) && known(high[i])).x((i) => xs[i]).y0((i) => low[i] ?? 0).y1((i) => high[i] ?? 0).digits(1)(xs.map((_, i) => i)) ?? "";
}

/** Many dots as one path; to be stroked with round caps. */
export function dotsPath(xs: number[], ys: Maybe[]): string {
  return xs.map((x, i) => (known(ys[i]) ? `M${x.toFixed(1)} ${ys[i].toFixed(1)}h0` : "")).join("");
}

/** Many vertical bars as one path. */
export function whiskersPath(xs: number[], low: Maybe[], high: Maybe[]): string {
  return xs.map((x, i) => (known(low[i]) && known(high[i]) ? `M${x.toFixed(1)} ${low[i].toFixed(1)}V${high[i].toFixed(1)}` : "")).join("");
}
