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
        {(data) => <Heatmap runs={data} />}
      </Panel>
    </View>
  );
}

function Heatmap({ runs }: { runs: RunScore[] }) {
  if (!runs.length) return <p>No run has finished yet.</p>;
  const kinds = [...new Set(runs.flatMap(({ score }) => Object.keys(score)))];
  const all = runs.flatMap(({ score }) => Object.values(score));
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const newest = [...runs].sort((a, b) => b.finished.localeCompare(a.finished));
  return (
    <>
      <div role="region" aria-label="Scores of runs, table" tabIndex={0} className="overflow-x-auto">
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
            {newest.map(({ run, cfg_hash: hash, finished, score, seed }) => (
              <tr key={`${run} ${hash} ${finished}`}>
                <th scope="row" className="whitespace-nowrap px-2 py-1 text-left font-medium"><code>{hash}</code> {run}</th>
                {kinds.map((kind) => <Cell key={kind} value={score[kind]} low={low} high={high} />)}
                <td className="whitespace-nowrap px-2 text-muted">{moment(finished)}</td>
                <td className="px-2 text-right text-muted">{seed ?? "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div className="mt-4"><ColourBar low={fixed3(low)} high={fixed3(high)} label="Score" /></div>
    </>
  );
}

function Cell({ value, low, high }: { value: number | undefined; low: number; high: number }) {
  if (value === undefined) return <td className="rounded bg-sunken px-2 text-center text-muted">–</td>;
  const share = (value - low) / (high - low || 1);
  return <td className="rounded px-2 py-1.5 text-center font-medium" style={{ background: rampColour(share), color: inkOn(share) }}>{fixed3(value)}</td>;
}
