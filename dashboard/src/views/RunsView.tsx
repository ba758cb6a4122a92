import type { RunScore } from "../api";
import { ColourBar } from "../charts/ColourBar";
import { Panel } from "../components/Panel";
import { View } from "../components/View";
import { inkOn, rampColour } from "../lib/colours";
import { fixed3, moment } from "../lib/format";
import { useLoaded } from "../lib/use-loaded";

export function RunsView() {
  const runs = useLoaded("api/runs");
  return (
    <View title="Runs" lead="What each configuration has scored.">
      <Panel testid="panel-runs" title="Score by configuration" description="The challenge's score: mean Gaussian log-likelihood above the reference. Newest first." loaded={runs}>
        {(data) => <Heatmap runs={data} label="Score" valuesOf={(run) => run.score} />}
      </Panel>
      <Panel testid="panel-gll" title="Gaussian log-likelihood by configuration" description="GLL of the true spectra, nats a bin, with the score's weights of the bins. Higher is better. Newest first." loaded={runs}>
        {(data) => <Heatmap runs={data.filter((run) => Object.keys(run.gll ?? {}).length > 0)} label="GLL" valuesOf={(run) => run.gll ?? {}} />}
      </Panel>
    </View>
  );
}

interface HeatmapProps {
  runs: RunScore[];
  label: string;
  valuesOf: (run: RunScore) => Record<string, number>;
}

function Heatmap({ runs, label, valuesOf }: HeatmapProps) {
  if (!runs.length) return <p>No finished run has this figure.</p>;
  const kinds = [...new Set(runs.flatMap((run) => Object.keys(valuesOf(run))))];
  const all = runs.flatMap((run) => Object.values(valuesOf(run)));
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const newest = [...runs].sort((a, b) => b.finished.localeCompare(a.finished));
  return (
    <>
      <div role="region" aria-label={`${label} of runs, table`} tabIndex={0} className="overflow-x-auto">
        <table className="w-full border-separate border-spacing-1 text-sm">
          <thead>
            <tr className="text-left text-xs text-muted">
              <th scope="col" className="px-2 font-medium">Configuration, run</th>
              {kinds.map((kind) => <th key={kind} scope="col" className="min-w-[6rem] px-2 text-center font-medium">{kind}</th>)}
              <th scope="col" className="px-2 font-medium">Finished (UTC)</th>
              <th scope="col" className="px-2 text-right font-medium">Seed</th>
            </tr>
          </thead>
          <tbody>
            {newest.map((one) => (
              <tr key={`${one.run} ${one.cfg_hash} ${one.finished}`}>
                <th scope="row" className="whitespace-nowrap px-2 py-1 text-left font-medium"><code>{one.cfg_hash}</code> {one.run}</th>
                {kinds.map((kind) => <Cell key={kind} value={valuesOf(one)[kind]} low={low} high={high} />)}
                <td className="whitespace-nowrap px-2 text-muted">{moment(one.finished)}</td>
                <td className="px-2 text-right text-muted">{one.seed ?? "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div className="mt-4"><ColourBar low={fixed3(low)} high={fixed3(high)} label={label} /></div>
    </>
  );
}

function Cell({ value, low, high }: { value: number | undefined; low: number; high: number }) {
  if (value === undefined) return <td className="rounded bg-sunken px-2 text-center text-muted">–</td>;
  const share = (value - low) / (high - low || 1);
  return <td className="rounded px-2 py-1.5 text-center font-medium" style={{ background: rampColour(share), color: inkOn(share) }}>{fixed3(value)}</td>;
}
