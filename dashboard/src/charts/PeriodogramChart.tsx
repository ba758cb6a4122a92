import { extent } from "d3-array";
import type { JitterLine } from "../api";
import { fixed2, fixed3 } from "../lib/format";
import { Chart, nearest, Reference, type Plot } from "./Chart";
import { Reading } from "./Frame";
import { areaPath, linePath } from "./paths";

interface PeriodogramChartProps {
  label: string;
  frequency: number[]; // millihertz, rising
  power: number[]; // 1 is white
  band?: { low: number[]; high: number[] };
  lines?: JitterLine[];
  colour: string;
  height?: number;
}

/** Power of residuals over that of white noise, both axes logarithmic. */
export function PeriodogramChart({ label, frequency, power, band, lines = [], colour, height = 230 }: PeriodogramChartProps) {
  const positive = [...power, ...(band?.low ?? []), ...(band?.high ?? []), 1].filter((value) => value > 0);
  const [low, high] = extent(positive) as [number, number];
  const from = frequency.find((value) => value > 0) ?? 1e-3;
  const domain: [number, number] = [from, Math.max(frequency[frequency.length - 1], from * 1.1)];
  const kept = frequency.map((_, at) => at).filter((at) => frequency[at] > 0);
  const pick = (values: number[]) => kept.map((at) => values[at]);
  const floored = (plot: Plot, values: number[]) => pick(values).map((value) => plot.y(Math.max(value, low)));
  return (
    <Chart
      label={label}
      height={height}
      x={{ domain, label: "Frequency (mHz)", log: true }}
      y={{ domain: [Math.max(low, 1e-4) / 1.4, high * 1.6], label: "Power, white noise = 1", log: true }}
      probe={(plot, px) => {
        const at = nearest(frequency, plot.x, px);
        const rows: [string, string][] = [[band ? "median" : "power", fixed2(power[at])], ...(band ? [["5% to 95%", `${fixed2(band.low[at])} to ${fixed2(band.high[at])}`] as [string, string]] : [])];
        return { x: plot.x(frequency[at]), y: plot.y(Math.max(power[at], low)), content: <Reading head={`${fixed3(frequency[at])} mHz`} rows={rows} /> };
      }}
    >
      {(plot) => {
        const xs = pick(frequency).map(plot.x);
        return (
          <>
            {band && <path d={areaPath(xs, floored(plot, band.low), floored(plot, band.high))} fill={colour} opacity={0.2} />}
            <Reference plot={plot} at={1} />
            <path d={linePath(xs, floored(plot, power))} fill="none" stroke={colour} strokeWidth={1.4} />
            {lines.filter(({ frequency_mhz: at }) => at >= domain[0] && at <= domain[1]).map((line, row) => (
              <g key={line.name}>
                <line x1={plot.x(line.frequency_mhz)} x2={plot.x(line.frequency_mhz)} y1={plot.margin.top} y2={height - plot.margin.bottom} stroke="var(--bad)" strokeDasharray="3 3" />
                <text x={plot.x(line.frequency_mhz) + (plot.x(line.frequency_mhz) > plot.width * 0.6 ? -5 : 5)} y={plot.margin.top + 11 + 14 * row} textAnchor={plot.x(line.frequency_mhz) > plot.width * 0.6 ? "end" : "start"} style={{ fill: "var(--bad)" }}>
                  {line.name}
                </text>
              </g>
            ))}
          </>
        );
      }}
    </Chart>
  );
}
