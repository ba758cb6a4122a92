/** The figures of a planet's row: how they read, and which way is worse. */
import type { PlanetRow } from "../api";
import * as format from "./format";

type NumericKey = { [K in keyof PlanetRow]-?: NonNullable<PlanetRow[K]> extends number ? K : never }[keyof PlanetRow];

export interface Figure {
  key: Exclude<NumericKey, "id">;
  label: string;
  unit?: string;
  worse: "high" | "low";
  log?: boolean; // spread over powers of ten: coloured by its logarithm
  format: (value: number | null | undefined) => string;
}

export const FIGURES: Figure[] = [
  { key: "score", label: "Score", worse: "low", format: format.fixed3 },
  { key: "fgs1_error_ppm", label: "FGS1 error", unit: "ppm", worse: "high", log: true, format: format.ppm },
  { key: "airs_mean_error_ppm", label: "AIRS mean error", unit: "ppm", worse: "high", log: true, format: format.ppm },
  { key: "airs_shape_error_ppm", label: "AIRS shape error", unit: "ppm", worse: "high", log: true, format: format.ppm },
  { key: "z_rms", label: "RMS of z", worse: "high", log: true, format: format.fixed2 },
  { key: "inside90", label: "Inside 90%", worse: "low", format: format.percent },
  { key: "unknown", label: "Unknown", worse: "high", format: format.fixed3 },
  { key: "latent_distance", label: "Latent distance", worse: "high", format: format.percent },
  { key: "residual_distance", label: "Residual distance", worse: "high", format: format.percent },
  { key: "violations", label: "Rules broken", worse: "high", format: format.count },
  { key: "depth_ppm", label: "Depth", unit: "ppm", worse: "low", log: true, format: format.ppm },
  { key: "sigma_ppm", label: "Sigma", unit: "ppm", worse: "high", log: true, format: format.ppm },
  { key: "signal_to_noise", label: "Signal to noise", worse: "low", log: true, format: format.fixed2 },
  { key: "teff_k", label: "Star's temperature", unit: "K", worse: "high", format: format.ppm },
  { key: "transit_h", label: "Transit", unit: "h", worse: "low", format: format.fixed2 },
  { key: "reads_lost", label: "Reads lost", worse: "high", format: format.percent },
  { key: "foreground_e_s", label: "Foreground", unit: "e⁻/s", worse: "high", format: format.fixed3 },
  { key: "orbit_tension", label: "Orbit tension", worse: "high", format: format.fixed2 },
];

export function figureOf(key: string): Figure | undefined {
  return FIGURES.find((figure) => figure.key === key);
}

export function withLabelUnit(figure: Figure): string {
  return figure.unit ? `${figure.label} (${figure.unit})` : figure.label;
}

/** Figures that at least one planet has. */
export function knownFigures(rows: PlanetRow[]): Figure[] {
  return FIGURES.filter((figure) => rows.some((row) => row[figure.key] != null));
}

export interface Order {
  figure: Figure | undefined; // by id, where there is none
  falling: boolean;
}

/** Worst first: the lowest score, or the highest unknown where there is no truth. */
export function defaultOrder(rows: PlanetRow[]): Order {
  const figure = figureOf(rows.some((row) => row.score != null) ? "score" : "unknown");
  return { figure, falling: figure?.worse === "high" };
}

/** Sorted; planets that lack the figure come last. */
export function sorted(rows: PlanetRow[], { figure, falling }: Order): PlanetRow[] {
  const valueOf = (row: PlanetRow) => (figure ? row[figure.key] : row.id);
  return [...rows].sort((a, b) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x == null || y == null) return Number(x == null) - Number(y == null) || a.id - b.id;
    return (falling ? y - x : x - y) || a.id - b.id;
  });
}
