import { group, sum } from "d3-array";
import type { Spectrum, Violation } from "../api";
import { Toggles, useHidden, type Series } from "../components/Toggles";
import { binName } from "../lib/bands";
import { predictorColour } from "../lib/colours";
import { count, ppm } from "../lib/format";
import { padded } from "./Chart";
import { Reading } from "./Frame";
import { dotsPath, whiskersPath } from "./paths";
import { BinBand, BinLine, WavelengthChart, type WavelengthPlot } from "./WavelengthChart";

const AVERAGED_BINS = 8;
const FITTED = "fitted points";
const INTERVAL = "conformal interval";
const TRUTH = "truth";
const QUANTILES = "quantiles 10, 50, 90%";

interface SpectrumChartProps {
  spectrum: Spectrum;
  violations: Violation[];
  submitted: string | undefined;
}

/** Predicted spectra with a sigma band each, the fit they start from, the truth where it is known, and broken rules. */
export function SpectrumChart({ spectrum, violations, submitted }: SpectrumChartProps) {
  const predictors = Object.keys(spectrum.mu_ppm);
  const main = submitted && predictors.includes(submitted) ? submitted : predictors[predictors.length - 1];
  const [hidden, toggle] = useHidden([INTERVAL, ...predictors.filter((name) => name !== main)]);
  const series: Series[] = [
    ...predictors.map((name) => ({ name, colour: predictorColour(name) })),
    { name: FITTED, colour: "var(--muted)", dashed: true },
    ...(spectrum.half_width_ppm ? [{ name: INTERVAL, colour: predictorColour(main), dashed: true }] : []),
    ...(spectrum.quantiles_ppm ? [{ name: QUANTILES, colour: "var(--s6)", dashed: true }] : []),
    ...(spectrum.truth_ppm ? [{ name: TRUTH, colour: "var(--ink)" }] : []),
  ];
  const shown = (name: string) => !hidden.has(name);
  const broken = violations.filter((violation) => violation.status === "violated");
  const interval = spectrum.half_width_ppm && shifted(spectrum.mu_ppm[main], spectrum.half_width_ppm);
  const range = [
    ...predictors.filter(shown).flatMap((name) => shifted(spectrum.mu_ppm[name], spectrum.sigma_ppm[name]).flat()),
    ...(interval && shown(INTERVAL) ? interval.flat() : []),
    ...(spectrum.truth_ppm && shown(TRUTH) ? spectrum.truth_ppm : []),
  ];
  const domain = padded(range.length ? range : spectrum.depth_ppm, 0.12);
  return (
    <>
      <Toggles label="Shown in the spectrum" series={series} hidden={hidden} onToggle={toggle} />
      <WavelengthChart
        label={`Transit depth in ppm against wavelength: ${series.filter(({ name }) => shown(name)).map(({ name }) => name).join(", ")}${broken.length ? `; rules broken: ${broken.map(({ rule }) => rule).join(", ")}` : ""}`}
        height={360}
        y={{ domain, label: "Transit depth (ppm)", format: (value) => count(value) }}
        probe={(plot, bin) => (
          <Reading
            head={binName(plot.bands, bin)}
            rows={[
              ...predictors.filter(shown).map((name): [string, string, string] => [name, `${ppm(spectrum.mu_ppm[name][bin])} ± ${ppm(spectrum.sigma_ppm[name][bin])}`, predictorColour(name)]),
              ["fitted", `${ppm(spectrum.depth_ppm[bin])} ± ${ppm(spectrum.depth_sigma_ppm[bin])}`, "var(--muted)"],
              ...(spectrum.truth_ppm ? [["truth", ppm(spectrum.truth_ppm[bin]), "var(--ink)"] as [string, string, string]] : []),
              ...broken.filter(({ bins }) => bins.includes(bin)).map(({ rule }): [string, string, string] => ["breaks", rule, "var(--bad)"]),
            ]}
          />
        )}
      >
        {(plot) => (
          <>
            {shown(FITTED) && <FittedPoints plot={plot} spectrum={spectrum} />}
            {predictors.filter(shown).map((name) => {
              const [low, high] = shifted(spectrum.mu_ppm[name], spectrum.sigma_ppm[name]);
              return <BinBand key={name} plot={plot} low={low} high={high} colour={predictorColour(name)} opacity={0.22} />;
            })}
            {interval && shown(INTERVAL) && interval.map((edge, index) => <BinLine key={index} plot={plot} values={edge} colour={predictorColour(main)} dashed width={1} />)}
            {shown(QUANTILES) && spectrum.quantiles_ppm?.map((values, index) => <BinLine key={`q${index}`} plot={plot} values={values} colour="var(--s6)" dashed width={1} />)}
            {spectrum.truth_ppm && shown(TRUTH) && <BinLine plot={plot} values={spectrum.truth_ppm} colour="var(--ink)" width={1.4} />}
            {predictors.filter(shown).map((name) => (
              <BinLine key={name} plot={plot} values={spectrum.mu_ppm[name]} colour={predictorColour(name)} width={2} />
            ))}
            <BrokenBins plot={plot} violations={broken} />
          </>
        )}
      </WavelengthChart>
    </>
  );
}

/** Fitted depths: FGS1's, and means of AIRS bins weighed by their variance. Those outside the plot are left out. */
function FittedPoints({ plot, spectrum }: { plot: WavelengthPlot; spectrum: Spectrum }) {
  const [bottom, top] = plot.y.domain();
  const points = averaged(spectrum, plot.x).filter(({ depth }) => depth >= bottom && depth <= top);
  const xs = points.map(({ x }) => x);
  const at = (sign: number) => points.map(({ depth, sigma }) => plot.y(depth + sign * sigma));
  return (
    <g stroke="var(--muted)" fill="none" strokeLinecap="round">
      <path d={whiskersPath(xs, at(-1), at(1))} opacity={0.5} />
      <path d={dotsPath(xs, at(0))} strokeWidth={5} />
    </g>
  );
}

function averaged({ depth_ppm: depths, depth_sigma_ppm: sigmas }: Spectrum, xs: number[]): { x: number; depth: number; sigma: number }[] {
  const known = depths.flatMap((depth, bin) => {
    const sigma = sigmas[bin];
    return depth == null || !sigma ? [] : [{ depth, group: bin === 0 ? 0 : Math.ceil(bin / AVERAGED_BINS), x: xs[bin], weight: 1 / sigma ** 2 }];
  });
  return [...group(known, (point) => point.group).values()].map((points) => {
    const weight = sum(points, (point) => point.weight);
    return { x: sum(points, (point) => point.x) / points.length, depth: sum(points, (point) => point.weight * point.depth) / weight, sigma: 1 / Math.sqrt(weight) };
  });
}

/** A row of marks under the spectrum for each broken rule, at the bins that break it. */
function BrokenBins({ plot, violations }: { plot: WavelengthPlot; violations: Violation[] }) {
  const floor = plot.height - plot.margin.bottom;
  return (
    <g stroke="var(--bad)" strokeWidth={2.5}>
      {violations.map(({ rule, bins }, row) => (
        <path key={rule} d={bins.map((bin) => `M${plot.x[bin]} ${floor - 3 - 7 * row}v-5`).join("")} />
      ))}
    </g>
  );
}

function shifted(centre: number[], by: (number | null)[]): [(number | null)[], (number | null)[]] {
  const edge = (sign: number) => centre.map((value, bin) => (by[bin] == null ? null : value + sign * by[bin]));
  return [edge(-1), edge(1)];
}
