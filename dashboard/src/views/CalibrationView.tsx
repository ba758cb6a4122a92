import type { Calibrated, Coverage, Histogram, Quantiles } from "../api";
import { padded } from "../charts/Chart";
import { CoverageChart, STEP_LABELS, STEPS } from "../charts/CoverageChart";
import { Reading } from "../charts/Frame";
import { HistogramChart } from "../charts/HistogramChart";
import { areaPath, linePath } from "../charts/paths";
import { BinLine, WavelengthChart } from "../charts/WavelengthChart";
import { DataTable, type Column } from "../components/DataTable";
import { Facts, type Fact } from "../components/Facts";
import { Panel } from "../components/Panel";
import { Tabs } from "../components/Tabs";
import { Legend, Toggles, useHidden } from "../components/Toggles";
import { Grid, View, WIDE } from "../components/View";
import { binName, useBands } from "../lib/bands";
import { predictorColour, stepColour } from "../lib/colours";
import { capitalised, count, fixed2, fixed3, percent, plural, share } from "../lib/format";
import { useLoaded } from "../lib/use-loaded";

export function CalibrationView() {
  const calibration = useLoaded("api/calibration");
  return (
    <View title="Calibration" lead="Whether error bars hold what they promise, before and after they are scaled.">
      <Grid>
        <Panel testid="panel-temperatures" title="Temperatures" description="Factors on sigma, each with its 90% interval, learned from planets that were predicted out of fold." loaded={calibration} className={WIDE}>
          {(data) => <Facts facts={temperatures(data)} />}
        </Panel>
        <Panel testid="panel-coverage" title="Coverage by group" description="Bars are binomial 95% bounds." loaded={calibration}>
          {({ coverage, alpha }) => <ByGroup coverage={coverage} target={1 - alpha} />}
        </Panel>
        <Panel testid="panel-histograms" title="Errors in sigmas, and their ranks" description="Errors over sigma against the unit Gaussian; ranks of truths in what was predicted (PIT) against what is even." loaded={calibration}>
          {({ histograms }) => <Histograms histograms={histograms} />}
        </Panel>
        <Panel testid="panel-coverage-bins" title="Coverage by bin" loaded={calibration} className={WIDE}>
          {({ coverage, alpha }) => <ByBin coverage={coverage} target={1 - alpha} />}
        </Panel>
        <Panel testid="panel-quantiles" title="Conformal quantiles by bin" description="How many calibrated sigmas an interval takes to hold; pooled with neighbouring bins, and by itself." loaded={calibration} className={WIDE}>
          {({ quantiles }) => <ByPredictor quantiles={quantiles} />}
        </Panel>
      </Grid>
    </View>
  );
}

function temperatures({ tau, tau_interval: intervals, widening, alpha, planets }: Calibrated): Fact[] {
  return [
    ...Object.entries(tau).map(([name, value]): Fact => {
      const interval = intervals[name] as [number, number] | undefined;
      return [capitalised(name), `${fixed3(value)}${interval ? ` (${fixed2(interval[0])} to ${fixed2(interval[1])})` : ""}`];
    }),
    ["Widening where unknown", fixed3(widening)],
    ["Promised", share(1 - alpha)],
    ["Planets", count(planets)],
  ];
}

const STEP_SERIES = STEPS.map((step) => ({ name: step, label: STEP_LABELS[step], colour: stepColour(step) }));
const binOf = (group: string): number | undefined => (/^bin \d+$/.test(group) ? Number(group.slice(4)) : undefined);

function ByGroup({ coverage, target }: { coverage: Coverage[]; target: number }) {
  return (
    <>
      <Legend series={STEP_SERIES} />
      <CoverageChart groups={coverage.filter(({ group }) => binOf(group) === undefined)} target={target} />
    </>
  );
}

function ByBin({ coverage, target }: { coverage: Coverage[]; target: number }) {
  const bins = useBands().wavelength_um.length;
  const [hidden, toggle] = useHidden(["before"]);
  const byBin = new Map(coverage.map((row) => [binOf(row.group), row]));
  const values = (step: (typeof STEPS)[number]) => Array.from({ length: bins }, (_, bin) => byBin.get(bin)?.[step] ?? null);
  const shown = STEPS.filter((step) => !hidden.has(step));
  if (![...byBin.keys()].some((bin) => bin !== undefined)) return <p>Coverage was not counted bin by bin.</p>;
  return (
    <>
      <Toggles label="Steps shown" series={STEP_SERIES} hidden={hidden} onToggle={toggle} />
      <WavelengthChart
        label={`Share of truths inside ${percent(target)} intervals against wavelength: ${shown.map((step) => STEP_LABELS[step]).join(", ")}`}
        height={260}
        y={{ domain: [Math.max(0, Math.min(target, ...shown.flatMap((step) => values(step).map((value) => value ?? 1))) - 0.03), 1], label: "Share of truths inside", format: (value) => `${Math.round(100 * value)}%` }}
        probe={(plot, bin) => {
          const row = byBin.get(bin);
          return <Reading head={binName(plot.bands, bin)} rows={row ? shown.map((step) => [STEP_LABELS[step], percent(row[step]), stepColour(step)]) : [["not counted", ""]]} />;
        }}
      >
        {(plot) => (
          <>
            <line x1={plot.margin.left} x2={plot.width - plot.margin.right} y1={plot.y(target)} y2={plot.y(target)} stroke="var(--ink)" strokeDasharray="5 4" />
            {shown.map((step) => <BinLine key={step} plot={plot} values={values(step)} colour={stepColour(step)} width={1.3} />)}
          </>
        )}
      </WavelengthChart>
    </>
  );
}

function ByPredictor({ quantiles }: { quantiles: Quantiles[] }) {
  if (!quantiles.length) return <p>No predictor has conformal quantiles.</p>;
  return (
    <Tabs label="Predictor" names={quantiles.map(({ predictor }) => capitalised(predictor))}>
      {(index) => <QuantilesOf quantiles={quantiles[index]} />}
    </Tabs>
  );
}

interface QuantileRow {
  bin: number;
  wavelength: number;
  q: number | null;
  alone: number | null;
  factor: number;
}

const infinite = (q: number | null): string => (q == null ? "infinite" : fixed3(q));

const QUANTILES: Column<QuantileRow>[] = [
  { key: "bin", label: "Bin", cell: ({ bin }) => (bin === 0 ? "0 (FGS1)" : bin), value: ({ bin }) => bin },
  { key: "wavelength", label: "Wavelength (µm)", numeric: true, cell: ({ wavelength }) => fixed3(wavelength), value: ({ wavelength }) => wavelength },
  { key: "q", label: "q", numeric: true, cell: ({ q }) => infinite(q), value: ({ q }) => q ?? Infinity },
  { key: "alone", label: "q by itself", numeric: true, cell: ({ alone }) => infinite(alone), value: ({ alone }) => alone ?? Infinity },
  { key: "factor", label: "Factor on sigma", numeric: true, cell: ({ factor }) => fixed3(factor), value: ({ factor }) => factor },
];

function QuantilesOf({ quantiles: { predictor, q, q_by_itself: alone, factor } }: { quantiles: Quantiles }) {
  const { wavelength_um: wavelengths } = useBands();
  const colour = predictorColour(predictor);
  const rows = q.map((value, bin) => ({ bin, wavelength: wavelengths[bin], q: value, alone: alone[bin], factor: factor[bin] }));
  const infinitely = q.filter((value) => value == null).length;
  return (
    <>
      <Legend series={[{ name: "q", colour }, { name: "q by itself", colour: "var(--transit)" }, { name: "factor on sigma", colour: "var(--ink)", dashed: true }]} />
      <WavelengthChart
        label={`Conformal quantile of ${predictor} in calibrated sigmas against wavelength, with the quantile of each bin by itself and the factor on sigma`}
        height={260}
        y={{ domain: [0, padded([...q, ...alone, ...factor, 0])[1]], label: "Calibrated sigmas" }}
        probe={(plot, bin) => <Reading head={binName(plot.bands, bin)} rows={[["q", infinite(q[bin]), colour], ["q by itself", infinite(alone[bin]), "var(--transit)"], ["factor on sigma", fixed3(factor[bin]), "var(--ink)"]]} />}
      >
        {(plot) => (
          <>
            <BinLine plot={plot} values={alone} colour="var(--transit)" width={1} />
            <BinLine plot={plot} values={factor} colour="var(--ink)" dashed width={1.2} />
            <BinLine plot={plot} values={q} colour={colour} width={2} />
          </>
        )}
      </WavelengthChart>
      {infinitely > 0 && <p className="mb-2 text-xs text-muted">No finite quantile in {plural(infinitely, "bin")}: too few planets.</p>}
      <DataTable label={`Quantiles of ${predictor} by bin`} columns={QUANTILES} rows={rows} rowKey={({ bin }) => bin} page={10} />
    </>
  );
}

const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);

function Histograms({ histograms }: { histograms: Histogram[] }) {
  return (
    <>
      <Legend series={[...STEP_SERIES.slice(0, 2), { name: "expected", colour: "var(--ink)", dashed: true }]} />
      <div className="grid gap-4">
        {histograms.filter(({ quantity }) => quantity === "z").map((histogram) => <Deviations key="z" histogram={histogram} />)}
        {histograms.filter(({ quantity }) => quantity !== "z").map((histogram) => <Ranks key="pit" histogram={histogram} />)}
      </div>
    </>
  );
}

function barsOf({ before, after }: Histogram) {
  return [
    { name: STEP_LABELS.before, colour: stepColour("before"), counts: before, filled: true },
    { name: STEP_LABELS.sigma, colour: stepColour("sigma"), counts: after },
  ];
}

function Deviations({ histogram }: { histogram: Histogram }) {
  const { edges, after } = histogram;
  const scale = sum(after) * (edges[1] - edges[0]);
  const gaussian = (z: number) => (scale * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
  const zs = Array.from({ length: 121 }, (_, at) => edges[0] + ((edges[edges.length - 1] - edges[0]) * at) / 120);
  return (
    <HistogramChart label="Histogram of errors over sigma before and after calibration, with the unit Gaussian" edges={edges} bars={barsOf(histogram)} x="Error / sigma" y="Count" height={205} top={gaussian(0)}>
      {(plot) => <path d={linePath(zs.map(plot.x), zs.map((z) => plot.y(gaussian(z))))} fill="none" stroke="var(--ink)" strokeDasharray="5 4" strokeWidth={1.4} />}
    </HistogramChart>
  );
}

/** Ranks are even if errors are as promised; the shade is where a count lies in 95 of 100 such cases. */
function Ranks({ histogram }: { histogram: Histogram }) {
  const { edges, after } = histogram;
  const total = sum(after);
  const each = 1 / after.length;
  const spread = 1.96 * Math.sqrt(total * each * (1 - each));
  const level = total * each;
  return (
    <HistogramChart label="Histogram of the ranks of truths in predictions before and after calibration, with the even level and its binomial range" edges={edges} bars={barsOf(histogram)} x="Rank of the truth (PIT)" y="Count" height={205} top={level + spread}>
      {(plot) => {
        const ends = [plot.x(edges[0]), plot.x(edges[edges.length - 1])];
        return (
          <>
            <path d={areaPath(ends, [plot.y(level - spread), plot.y(level - spread)], [plot.y(level + spread), plot.y(level + spread)])} fill="var(--ink)" opacity={0.12} />
            <path d={linePath(ends, [plot.y(level), plot.y(level)])} stroke="var(--ink)" strokeDasharray="5 4" strokeWidth={1.4} />
          </>
        );
      }}
    </HistogramChart>
  );
}
