import type { Coverage } from "../api";
import { stepColour } from "../lib/colours";
import { formula, percent, plural, share } from "../lib/format";
import { useWidth } from "../lib/use-width";
import { XAxis } from "./axes";
import { Frame, Reading } from "./Frame";
import { scaleLinear } from "d3-scale";

export const STEPS = ["before", "sigma", "interval"] as const;
export const STEP_LABELS = { before: "uncalibrated", sigma: "calibrated sigma", interval: "conformal interval" };
const ROW = 24;
const BETWEEN = 6;

/** Coverage of each group with its binomial bounds, at each step of the calibration; the dashed line is what is promised. */
export function CoverageChart({ groups, target }: { groups: Coverage[]; target: number }) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const height = groups.length * ROW + 62;
  const margin = { top: 20, right: 16, bottom: 38, left: 20 + 6 * Math.max(...groups.map(({ group }) => group.length), 8) };
  const low = Math.min(target, ...groups.flatMap((group) => [group.before_low, group.sigma_low, group.interval_low]));
  const x = scaleLinear([Math.max(0, low - 0.03), 1], [margin.left, width - margin.right]);
  const rowAt = (row: number) => margin.top + ROW * (row + 0.5);
  return (
    <div ref={ref} className="min-w-0" style={{ minHeight: height }}>
      {width > 0 && (
        <Frame
          {...{ width, height, margin }}
          label={`Share of truths inside ${percent(target)} intervals, by group of bins or planets: ${groups.map(({ group, interval }) => `${group} ${percent(interval)}`).join(", ")}`}
          probe={(_, py) => {
            const group = groups[Math.floor((py - margin.top) / ROW)];
            if (!group) return null;
            const rows = STEPS.map((step): [string, string, string] => [STEP_LABELS[step], `${percent(group[step])} (${percent(group[`${step}_low`])} to ${percent(group[`${step}_high`])})`, stepColour(step)]);
            return { x: x(target), content: <Reading head={`${formula(group.group)}: ${plural(group.planets, "planet")}, ${plural(group.bins, "bin")}`} rows={rows} /> };
          }}
        >
          <XAxis {...{ width, height, margin }} label="Share of truths inside" ticks={x.ticks(Math.max(3, Math.round(width / 130))).map((value) => ({ at: x(value), label: `${Math.round(100 * value)}%` }))} />
          {groups.map((group, row) => (
            <g key={group.group}>
              {row % 2 === 0 && <rect x={0} width={width} y={rowAt(row) - ROW / 2} height={ROW} fill="var(--sunken)" opacity={0.6} />}
              <text x={margin.left - 10} y={rowAt(row)} dy="0.32em" textAnchor="end" style={{ fill: "var(--ink)" }}>{formula(group.group)}</text>
              {STEPS.map((step, index) => {
                const y = rowAt(row) + BETWEEN * (index - 1);
                return (
                  <g key={step} stroke={stepColour(step)} fill={stepColour(step)} strokeWidth={1.6}>
                    <line x1={x(group[`${step}_low`])} x2={x(group[`${step}_high`])} y1={y} y2={y} />
                    <circle cx={x(group[step])} cy={y} r={2.6} />
                  </g>
                );
              })}
            </g>
          ))}
          <line x1={x(target)} x2={x(target)} y1={margin.top - 4} y2={height - margin.bottom} stroke="var(--ink)" strokeDasharray="5 4" />
          <text x={Math.min(x(target), width - 42)} y={11} textAnchor="middle">{share(target)} promised</text>
        </Frame>
      )}
    </div>
  );
}
