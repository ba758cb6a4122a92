import { memo, useEffect, useState, type ReactNode } from "react";
import type { Attribution, Frame, Influence, Planet, PlanetRow, RetrievedAtmosphere, RetrievedParameter, Violation } from "../api";
import { AttentionChart } from "../charts/AttentionChart";
import { Bars } from "../charts/Bars";
import { CornerChart } from "../charts/CornerChart";
import { DetectorFrame } from "../charts/DetectorFrame";
import { LightCurveChart } from "../charts/LightCurveChart";
import { PeriodogramChart } from "../charts/PeriodogramChart";
import { AXES, PointingChart } from "../charts/PointingChart";
import { SpectrumChart } from "../charts/SpectrumChart";
import { Strips } from "../charts/Strips";
import { Checkbox } from "../components/Checkbox";
import { DataTable, type Column } from "../components/DataTable";
import { Facts, type Fact } from "../components/Facts";
import { Panel } from "../components/Panel";
import { Status } from "../components/Status";
import { Tabs } from "../components/Tabs";
import { Legend } from "../components/Toggles";
import { Grid, WIDE } from "../components/View";
import { useBands } from "../lib/bands";
import { channelColour, coloursOf } from "../lib/colours";
import { FIGURES, withLabelUnit } from "../lib/figures";
import { capitalised, count, fixed2, formula, ppm, share, tick } from "../lib/format";
import { panelState } from "../lib/load";
import { planetDrawn } from "../lib/timing";
import { useLoaded } from "../lib/use-loaded";

/** One planet: its spectrum first, then all that led to it. */
export function PlanetDetail({ id, steps }: { id: number; steps: ReactNode }) {
  const planet = useLoaded(`api/planets/${id}`, { meanwhile: true });
  const drawn = planet.state === "ready" ? planet.data.row.id : id;
  useEffect(() => {
    if (planet.state !== "loading" && drawn === id) planetDrawn();
  }, [planet.state, drawn, id]);
  return (
    <div className="min-w-0">
      <div className="mb-4 flex flex-wrap items-center justify-between gap-3">
        <h1 tabIndex={-1} className="text-2xl font-semibold tracking-tight text-ink">Planet {drawn}</h1>
        {steps}
      </div>
      {planet.state === "ready" ? (
        <PlanetPanels planet={planet.data} />
      ) : (
        <Panel testid="panel-planet" title="This planet" loaded={planet}>
          {() => null}
        </Panel>
      )}
    </div>
  );
}

const PlanetPanels = memo(function PlanetPanels({ planet }: { planet: Planet }) {
  const overview = useLoaded("api/overview");
  const submitted = overview.state === "ready" ? overview.data.predictor ?? undefined : undefined;
  const violations = planet.violations.data ?? NO_VIOLATIONS;
  return (
    <Grid>
      <Panel testid="panel-spectrum" title="Spectrum" description="Line and shade: prediction with its calibrated sigma. Dots: the fit before any prior, means of 8 bins, their bars as if bins were independent. Red marks above the axis: bins that break a rule." loaded={panelState(planet.spectrum)} className={WIDE}>
        {(spectrum) => (
          <>
            <SpectrumChart spectrum={spectrum} violations={violations} submitted={submitted} />
            {!spectrum.truth_ppm && <p className="mt-1 text-muted">No truth is known for this planet.</p>}
          </>
        )}
      </Panel>
      <Summary planet={planet} />
      <Panel testid="panel-violations" title="Rules of the physics" description="Significance is in sigmas beyond the bound; negative is inside it." loaded={panelState(planet.violations)} className={WIDE}>
        {(all) => <ViolationsTable violations={all} />}
      </Panel>
      <Panel testid="panel-light-curves" title="Light curves" description="Dots: white light of each channel. Solid: model; dashed: drift without the transit." loaded={panelState(planet.light_curves)} className={WIDE}>
        {(curves) => (
          <div className="grid grid-cols-[minmax(0,1fr)] gap-6 md:grid-cols-[repeat(2,minmax(0,1fr))]">
            {curves.map((curve) => <LightCurveChart key={`${curve.channel} ${curve.visit}`} curve={curve} />)}
          </div>
        )}
      </Panel>
      <RawFrames id={planet.row.id} />
      <Panel testid="panel-periodograms" title="Periodograms of residuals" description="White noise lies at 1." loaded={panelState(planet.periodograms)}>
        {(periodograms) =>
          periodograms.map(({ channel, frequency_mhz: frequency, power }) => (
            <div key={channel}>
              <h3 className="text-xs font-semibold text-ink">{channel}</h3>
              <PeriodogramChart label={`Periodogram of ${channel} residuals, white noise at 1`} frequency={frequency} power={power} colour={channelColour(channel)} height={200} />
            </div>
          ))
        }
      </Panel>
      <Panel testid="panel-pointing" title="Pointing" description="Where the star stood on FGS1." loaded={panelState(planet.pointing)} className={WIDE} actions={<Legend series={[{ name: "x", colour: AXES.x }, { name: "y", colour: AXES.y }]} />}>
        {(visits) => (
          <div className="grid grid-cols-[minmax(0,1fr)] gap-6 md:grid-cols-[repeat(auto-fit,minmax(20rem,1fr))]">
            {visits.map((pointing) => <PointingChart key={pointing.visit} pointing={pointing} />)}
          </div>
        )}
      </Panel>
      <Panel testid="panel-attention" title="Attention of the graph" description="Arcs join bins that inform each other, by kind of edge; the last layer, a mean over heads." loaded={panelState(planet.attention)} className={WIDE}>
        {(attention) => <AttentionChart attention={attention} />}
      </Panel>
      <Panel testid="panel-influence" title="Influence of the rules" description="The slope of each rule's loss in the prediction; 1 is the strongest bin of all rules. Numbers at the left: each strip's largest size." loaded={panelState(planet.influence)}>
        {(influence) => <InfluenceStrips influence={influence} />}
      </Panel>
      <Panel testid="panel-attribution" title="What the correction rests on" description="SHAP values of the network's correction in ppm, by output. Numbers at the left: each strip's largest size." loaded={panelState(planet.attribution)}>
        {(attribution) => <AttributionStrips attribution={attribution} />}
      </Panel>
      <Panel testid="panel-retrieval" title="Retrieval" description={RETRIEVAL_HELP} loaded={panelState(planet.retrieval)} className={WIDE}>
        {(atmosphere) => <Retrieval atmosphere={atmosphere} />}
      </Panel>
    </Grid>
  );
});

const NO_VIOLATIONS: Violation[] = [];

function Summary({ planet: { row, star } }: { planet: Planet }) {
  const figures = FIGURES.filter(({ key }) => row[key] != null && key !== "teff_k").map((figure): Fact => [withLabelUnit(figure), figure.format(row[figure.key])]);
  return (
    <Panel testid="panel-summary" title="In figures" description={notes(row)} loaded={{ state: "ready", data: star }} className={WIDE}>
      {() => (
        <>
          <Facts facts={figures} />
          <h3 className="mb-2 mt-5 text-xs font-semibold text-ink">Star and orbit</h3>
          <Facts facts={Object.entries(star).map(([name, value]): Fact => [name, tick(Number(value.toPrecision(5)))])} />
        </>
      )}
    </Panel>
  );
}

function notes(row: PlanetRow): string {
  const notes = [`From the ${row.planets === "test" ? "test set" : "training set, predicted out of fold"}.`];
  if (row.score == null) notes.push("No truth is known, so there are no errors and no score.");
  if (row.calibrated === false) notes.push("Its error bars are as predicted: the calibration can't be read.");
  if (row.failed) notes.push("Its fit failed; the prediction falls back to what training spectra look like.");
  return notes.join(" ");
}

const FRAMES_REST_MS = 300;

/** Asked for by themselves, and not of planets that are clicked past: to open raw files takes longer than all else. */
function RawFrames({ id }: { id: number }) {
  return (
    <Panel testid="panel-frames" title="Raw frames" description="The end minus the start of one exposure." loaded={useLoaded(`api/planets/${id}/frames`, { rest: FRAMES_REST_MS })}>
      {(frames) => <Frames frames={frames} />}
    </Panel>
  );
}

function Frames({ frames }: { frames: Frame[] }) {
  if (!frames.length) return <p>No frame was kept.</p>;
  return (
    <Tabs label="Channel" names={frames.map(({ channel }) => channel)}>
      {(index) => <DetectorFrame frame={frames[index]} />}
    </Tabs>
  );
}

function InfluenceStrips({ influence: { by_rule: rules } }: { influence: Influence }) {
  const [common, setCommon] = useState(false);
  const colours = coloursOf(Object.keys(rules));
  const pushing = Object.entries(rules).filter(([, values]) => values.some((value) => value !== 0));
  if (!pushing.length) return <p>This spectrum keeps every rule, so none of them pushes it.</p>;
  return (
    <>
      <Checkbox label="One scale for all" checked={common} onChange={setCommon} />
      <Strips label="Influence of each rule against wavelength" strips={pushing.map(([name, values]) => ({ name, values, colour: colours[name] }))} common={common} format={fixed2} />
    </>
  );
}

function AttributionStrips({ attribution: { by_output: outputs, planet_features: rest } }: { attribution: Attribution }) {
  const [common, setCommon] = useState(false);
  const colours = coloursOf(Object.keys(outputs));
  const others = Object.entries(rest);
  return (
    <>
      <Checkbox label="One scale for all" checked={common} onChange={setCommon} />
      <Strips label="SHAP values in ppm against wavelength, by output" strips={Object.entries(outputs).map(([name, values]) => ({ name, values, colour: colours[name] }))} common={common} format={ppm} />
      {others.length > 0 && (
        <>
          <h3 className="mb-1 mt-4 text-xs font-semibold text-ink">From what belongs to no bin (ppm)</h3>
          <Bars label="SHAP in ppm from features that belong to no bin, by output" rows={others.map(([name, value]) => ({ name, value, text: ppm(value), colour: colours[name] }))} />
        </>
      )}
    </>
  );
}

const RETRIEVAL_HELP =
  "Posterior of temperature and composition, which holds under the simulator's chemistry only: no other gas, temperature profile or cloud is considered. Reliable means that enough proposals count and the best one fits. It does not confirm the chemistry: two thirds of the planets whose chemistry the simulator does not know count as reliable, too. Mixing ratios and pressures are log10; shade: 68% interval; dashed: median.";

function Retrieval({ atmosphere }: { atmosphere: RetrievedAtmosphere }) {
  const { valid, effective, proposals, reliable, free_chemistry: free, parameters } = atmosphere;
  const columns: Column<RetrievedParameter>[] = [
    { key: "name", label: "Parameter", cell: ({ name }) => formula(capitalised(name)) },
    { key: "median", label: "Median", numeric: true, cell: ({ median }) => ppm(median) },
    { key: "interval", label: "68% interval", numeric: true, cell: ({ low, high }) => `${ppm(low)} to ${ppm(high)}` },
  ];
  return (
    <>
      <p className="mb-4 flex flex-wrap items-center gap-2">
        <Status text={reliable ? "reliable" : "not reliable"} />
        <Status text={valid} />
        {!reliable && <strong className="font-medium text-bad">Few proposals count, or none fits the depths: use the predicted spectrum.</strong>}
      </p>
      <div className="grid grid-cols-[minmax(0,1fr)] gap-6 lg:grid-cols-[minmax(0,3fr)_minmax(0,2fr)]">
        <CornerChart label={`Corner plot of ${parameters.length} parameters ${valid}${reliable ? "" : ", not reliable"}; their medians and intervals are in the table`} atmosphere={atmosphere} />
        <div className="min-w-0">
          <DataTable label="Retrieved parameters" columns={columns} rows={parameters} rowKey={({ name }) => name} />
          <div className="mt-5">
            <Facts facts={[["Effective sample size", `${count(Math.round(effective))} of ${count(proposals)}`], ["Free chemistry, probability", share(free)]]} />
          </div>
        </div>
      </div>
    </>
  );
}

function ViolationsTable({ violations }: { violations: Violation[] }) {
  const { wavelength_um: wavelengths } = useBands();
  const columns: Column<Violation>[] = [
    { key: "rule", label: "Rule", cell: ({ rule }) => rule, value: ({ rule }) => rule },
    { key: "status", label: "Status", cell: ({ status }) => <Status text={status} />, value: ({ status }) => status },
    { key: "significance", label: "Significance (σ)", numeric: true, cell: ({ significance_sigma: sigma }) => fixed2(sigma), value: ({ significance_sigma: sigma }) => sigma },
    { key: "value", label: "Value (ppm)", numeric: true, cell: ({ value_ppm: value }) => ppm(value), value: ({ value_ppm: value }) => value },
    { key: "bound", label: "Bound (ppm)", numeric: true, cell: ({ bound_ppm: bound }) => ppm(bound), value: ({ bound_ppm: bound }) => bound },
    { key: "bins", label: "Where (µm)", cell: ({ bins }) => where(bins, wavelengths) },
  ];
  return <DataTable label="Rules of the physics for this planet" columns={columns} rows={violations} rowKey={({ rule }) => rule} sortedBy={{ key: "significance", falling: true }} />;
}

function where(bins: number[], wavelengths: number[]): string {
  if (!bins.length) return "–";
  const [first, last] = [Math.min(...bins), Math.max(...bins)].map((bin) => wavelengths[bin].toFixed(2));
  return first === last ? first : `${first} to ${last} (${bins.length} bins)`;
}
