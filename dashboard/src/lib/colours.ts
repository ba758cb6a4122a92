/** One palette for all charts; each colour is a CSS variable that has a value in both themes. */

const PREDICTORS: Record<string, string> = { transit: "var(--transit)", gaussian: "var(--gaussian)", neural: "var(--neural)" };
const MOLECULES: Record<string, string> = { H2O: "var(--h2o)", CO2: "var(--co2)", CH4: "var(--ch4)", CO: "var(--co)", HCN: "var(--hcn)", O3: "var(--o3)" };
const STEPS: Record<string, string> = { before: "var(--s6)", sigma: "var(--s1)", interval: "var(--s3)" };
const SETS: Record<string, string> = { "out of fold": "var(--s5)", test: "var(--s2)" };
const CHANNELS: Record<string, string> = { FGS1: "var(--s1)", AIRS: "var(--s2)" };

/** For what has no colour of its own: none of these is a predictor's or a molecule's. */
const SERIES = ["var(--s1)", "var(--s2)", "var(--s3)", "var(--s4)", "var(--s5)", "var(--s6)"];

export const predictorColour = (name: string): string => PREDICTORS[name] ?? "var(--s6)";
export const moleculeColour = (name: string): string => MOLECULES[name] ?? "var(--s4)";
export const stepColour = (name: string): string => STEPS[name] ?? "var(--s6)";
export const setColour = (name: string): string => SETS[name] ?? "var(--s6)";
export const channelColour = (name: string): string => CHANNELS[name] ?? "var(--s6)";

/** A colour per name: its molecule's where it speaks of one ("H2O band"), else one of the series in the order given. */
export function coloursOf(names: string[]): Record<string, string> {
  const moleculeIn = (name: string) => Object.keys(MOLECULES).find((molecule) => name.split(/[ :]/).includes(molecule));
  const others = names.filter((name) => !moleculeIn(name));
  return Object.fromEntries(names.map((name) => [name, MOLECULES[moleculeIn(name) ?? ""] ?? SERIES[others.indexOf(name) % SERIES.length]]));
}

/** Dark to light, even to the eye and in greyscale; t from 0 to 1. */
const RAMP = [
  [38, 24, 74], [59, 42, 118], [65, 71, 143], [56, 99, 150], [45, 126, 151],
  [40, 152, 146], [70, 178, 130], [128, 201, 104], [195, 219, 78], [253, 231, 70],
];

export function ramp(t: number): [number, number, number] {
  const at = Math.min(Math.max(t, 0), 1) * (RAMP.length - 1);
  const from = Math.min(Math.floor(at), RAMP.length - 2);
  const share = at - from;
  const mix = (channel: number) => Math.round(RAMP[from][channel] * (1 - share) + RAMP[from + 1][channel] * share);
  return [mix(0), mix(1), mix(2)];
}

export function rampColour(t: number): string {
  return `rgb(${ramp(t).join(" ")})`;
}

export const RAMP_GRADIENT = `linear-gradient(to right, ${RAMP.map((colour) => `rgb(${colour.join(" ")})`).join(", ")})`;

/** Black or white, whichever reads better on the ramp's colour. */
export function inkOn(t: number): string {
  const [r, g, b] = ramp(t).map((channel) => (channel / 255 <= 0.04045 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}
