import { Metric } from "@tremor/react";
import type { Overview, Score, StageTime } from "../api";
import { Bars } from "../charts/Bars";
import { DataTable, type Column } from "../components/DataTable";
import { Facts, type Fact } from "../components/Facts";
import { Panel } from "../components/Panel";
import { Grid, View, WIDE } from "../components/View";
import { predictorColour } from "../lib/colours";
import { count, duration, fixed1, fixed2, fixed3, moment, percent, plural, ppm, spaced, withUnit } from "../lib/format";
import { part } from "../lib/load";
import { useLoaded } from "../lib/use-loaded";

export function OverviewView() {
  const overview = useLoaded("api/overview");
  const submitted = overview.state === "ready" ? overview.data.predictor : undefined;
  const scores = part(overview, (data) => data.scores);
  return (
    <View title="Overview" lead="How good the spectra are, what they cost, and what made them.">
      <Grid>
        <Panel testid="panel-score" title="Score of what is submitted" description="The challenge's score: Gaussian log-likelihood above a flat reference, 1 at best." loaded={scores}>
          {(data) => <Submitted scores={data} submitted={submitted} />}
        </Panel>
        <Panel testid="panel-runtime" title="Runtime" description={`What the stages took, and what ${count(1100)} planets would take against the challenge's budget.`} loaded={part(overview, (data) => data.stages)}>
          {(data) => (
            <>
              {overview.state === "ready" && <Budget overview={overview.data} />}
              <Runtime stages={data} />
            </>
          )}
        </Panel>
        <Panel
          testid="panel-scores"
          title="Predictors side by side"
          description="Errors in ppm are root mean squares over planets, with the median in brackets. What a part costs is the score that there would be more without its error. z is the standard deviation of error over sigma; coverage is the share of truths within the 68% and 90% intervals."
          loaded={scores}
          className={WIDE}
        >
          {(data) => <DataTable label="Scores of the predictors" columns={columnsFor(submitted)} rows={data} rowKey={(score) => `${score.predictor} ${score.planets}`} />}
        </Panel>
        <Panel testid="panel-run" title="This run" loaded={overview}>
          {(data) => <Facts facts={runFacts(data)} />}
        </Panel>
        <Panel testid="panel-rules" title="Rules violated" description="Planets of the submission that break a rule of the physics." loaded={part(overview, (data) => data.rules_violated)}>
          {(data) => <Rules broken={data} />}
        </Panel>
      </Grid>
    </View>
  );
}

function Submitted({ scores: every, submitted }: { scores: Score[]; submitted: string | null | undefined }) {
  const scores = every.filter(({ predictor }) => predictor === submitted);
  if (!scores.some(({ score }) => score != null)) return <p>No truth is known for any planet of this run, so it has no score.</p>;
  return (
    <div className="grid grid-cols-1 gap-6 sm:grid-cols-2 lg:grid-cols-1">
      {scores.map(({ planets, score, count: number }) => (
        <div key={planets} className="min-w-0">
          <Metric className="text-4xl font-semibold tracking-tight text-ink">{fixed3(score)}</Metric>
          <p className="mb-3 mt-1 text-muted">
            {planets}, {plural(number, "planet")}{score == null && ": no truth is known"}
          </p>
          <Bars label={`Scores by predictor, ${planets}`} rows={every.filter((other) => other.planets === planets && other.score != null).map((other) => ({ name: other.predictor, value: other.score ?? 0, text: fixed3(other.score), colour: predictorColour(other.predictor) }))} />
        </div>
      ))}
    </div>
  );
}

function PredictorName({ name }: { name: string }) {
  return (
    <span className="inline-flex items-center gap-2 font-medium text-ink">
      <span aria-hidden className="h-2.5 w-2.5 rounded-full" style={{ background: predictorColour(name) }} />
      {name}
    </span>
  );
}

function errorColumn(key: string, label: string, rms: (score: Score) => number | null | undefined, median: (score: Score) => number | null | undefined): Column<Score> {
  return {
    key,
    label: `${label} (ppm)`,
    numeric: true,
    value: rms,
    cell: (score) => (
      <>
        {ppm(rms(score))} <span className="text-muted">({ppm(median(score))})</span>
      </>
    ),
  };
}

function costColumn(part: string, cost: (score: Score) => number | null | undefined): Column<Score> {
  return { key: `cost_${part}`, label: `${part} costs`, numeric: true, value: cost, cell: (score) => fixed3(cost(score)) };
}

function columnsFor(submitted: string | null | undefined): Column<Score>[] {
  return [
    {
      key: "predictor",
      label: "Predictor",
      value: ({ predictor }) => predictor,
      cell: ({ predictor }) => (
        <>
          <PredictorName name={predictor} /> {predictor === submitted && <span className="ml-1 text-xs font-normal text-muted">submitted</span>}
        </>
      ),
    },
    ...SCORES,
  ];
}

const SCORES: Column<Score>[] = [
  { key: "planets", label: "Planets", cell: ({ planets, count: number }) => `${planets} (${count(number)})`, value: ({ planets }) => planets },
  { key: "score", label: "Score", numeric: true, cell: ({ score }) => <strong>{fixed3(score)}</strong>, value: ({ score }) => score },
  errorColumn("fgs1", "FGS1", (score) => score.fgs1_ppm, (score) => score.fgs1_median_ppm),
  errorColumn("mean", "AIRS mean", (score) => score.airs_mean_ppm, (score) => score.airs_mean_median_ppm),
  errorColumn("shape", "AIRS shape", (score) => score.airs_shape_ppm, (score) => score.airs_shape_median_ppm),
  costColumn("FGS1", (score) => score.fgs1_cost),
  costColumn("mean", (score) => score.airs_mean_cost),
  costColumn("shape", (score) => score.airs_shape_cost),
  { key: "z_fgs1", label: "z FGS1", numeric: true, cell: (score) => fixed2(score.z_fgs1), value: (score) => score.z_fgs1 },
  { key: "z_airs", label: "z AIRS", numeric: true, cell: (score) => fixed2(score.z_airs), value: (score) => score.z_airs },
  { key: "68", label: "In 68%", numeric: true, cell: (score) => percent(score.coverage68), value: (score) => score.coverage68 },
  { key: "90", label: "In 90%", numeric: true, cell: (score) => percent(score.coverage90), value: (score) => score.coverage90 },
];

function runFacts(overview: Overview): Fact[] {
  return [
    ["Run", overview.run],
    ["Planets", count(overview.planets)],
    ["Data", overview.simulated ? "simulated" : "as observed"],
    ["Version", overview.version],
    ["Configuration", <code key="hash">{overview.cfg_hash ?? "–"}</code>],
    ["Git", <code key="sha">{overview.git_sha ?? "–"}</code>],
    ["Seed", overview.seed ?? "–"],
    ["Device", overview.device ?? "–"],
    ["Profile", overview.profile ?? "–"],
    ["Weights", overview.weights ?? "–"],
  ];
}

function Runtime({ stages }: { stages: StageTime[] }) {
  return (
    <>
      <h3 className="mb-1 mt-5 text-xs font-semibold text-ink">By stage</h3>
      <Bars label="Seconds by stage" rows={stages.map((stage) => ({ name: spaced(stage.stage), value: stage.seconds, text: duration(stage.seconds) }))} />
      <p className="mt-2 text-xs text-muted">{stageNote(stages)}</p>
    </>
  );
}

function stageNote(stages: StageTime[]): string {
  const total = stages.reduce((sum, { seconds }) => sum + seconds, 0);
  const peak = Math.max(...stages.map(({ peak_gb: gigabytes }) => gigabytes ?? 0));
  const last = stages.map(({ finished }) => finished).sort().pop();
  return [`In all ${duration(total)}`, peak > 0 && `at most ${withUnit(fixed1(peak), "GB")} of memory`, last && `finished ${moment(last)} UTC`].filter(Boolean).join("; ");
}

function Budget({ overview: { projected_hours: projected, budget_hours: budget, seconds_per_planet: perPlanet } }: { overview: Overview }) {
  if (projected == null) return null;
  const share = Math.min(1, projected / budget);
  return (
    <div>
      <p>
        <strong className="text-xl">{withUnit(fixed2(projected), "h")}</strong> <span className="text-muted">projected for {count(1100)} planets, of {withUnit(fixed1(budget), "h")} allowed{perPlanet != null && `; ${duration(perPlanet)} a planet`}</span>
      </p>
      <div className="mt-2 h-3 overflow-hidden rounded-full bg-sunken" role="img" aria-label={`${fixed1(projected)} of ${fixed1(budget)} hours`}>
        <div className="h-full rounded-full" style={{ width: `${100 * share}%`, background: projected > budget ? "var(--bad)" : "var(--good)" }} />
      </div>
    </div>
  );
}

function Rules({ broken }: { broken: Record<string, number> }) {
  const rules = Object.entries(broken).sort(([, a], [, b]) => b - a);
  if (!rules.some(([, planets]) => planets > 0)) return <p>No planet breaks a rule.</p>;
  return <Bars label="Planets that break each rule" rows={rules.map(([rule, planets]) => ({ name: spaced(rule), value: planets, text: count(planets), colour: "var(--bad)" }))} />;
}
