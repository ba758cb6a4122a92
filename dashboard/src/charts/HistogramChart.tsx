import { bisectRight, ticks } from "d3-array";
import type { ReactNode } from "react";
import { count, fixed2 } from "../lib/format";
import { Chart, type Plot } from "./Chart";
import { Reading } from "./Frame";
import { areaPath, linePath } from "./paths";

export interface Bars {
  name: string;
  colour: string;
  counts: number[];
  filled?: boolean;
}

interface HistogramChartProps {
  label: string;
  edges: number[];
  bars: Bars[];
  x: string;
  y?: string;
  height?: number;
  scale?: (count: number) => number; // of what is drawn; the pointer reads counts
  top?: number; // the plot reaches at least up to here
  children?: (plot: Plot) => ReactNode;
}

/** Counts between edges as steps; the first one filled. */
export function HistogramChart({ label, edges, bars, x, y = "Planets", height = 230, scale = (value) => value, top = 0, children }: HistogramChartProps) {
  const highest = Math.max(top, ...bars.flatMap(({ counts }) => counts.map(scale)));
  return (
    <Chart
      label={label}
      height={height}
      x={{ domain: [edges[0], edges[edges.length - 1]], label: x }}
      y={{ domain: [0, highest * 1.08 || 1], label: y, ticks: ticks(0, highest || 1, height / 45).filter(Number.isInteger) }}
      probe={(plot, px) => {
        const at = Math.min(edges.length - 2, Math.max(0, bisectRight(edges, plot.x.invert(px)) - 1));
        const middle = (edges[at] + edges[at + 1]) / 2;
        return { x: plot.x(middle), content: <Reading head={`${fixed2(edges[at])} to ${fixed2(edges[at + 1])}`} rows={bars.map(({ name, colour, counts }) => [name, count(counts[at]), colour])} /> };
      }}
    >
      {(plot) => (
        <>
          {bars.map(({ name, colour, counts, filled = false }) => {
            const xs = edges.slice(0, -1).flatMap((edge, at) => [plot.x(edge), plot.x(edges[at + 1])]);
            const ys = counts.flatMap((value) => [plot.y(scale(value)), plot.y(scale(value))]);
            return filled ? (
              <path key={name} d={areaPath(xs, xs.map(() => plot.y(0)), ys)} fill={colour} opacity={0.4} />
            ) : (
              <path key={name} d={linePath(xs, ys)} fill="none" stroke={colour} strokeWidth={1.6} />
            );
          })}
          {children?.(plot)}
        </>
      )}
    </Chart>
  );
}

/** Edges and counts of values that have been counted nowhere yet. */
export function counted(values: number[], [low, high]: [number, number], bins: number): { edges: number[]; counts: number[] } {
  const edges = Array.from({ length: bins + 1 }, (_, at) => low + ((high - low) * at) / bins);
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.max(0, Math.floor(((value - low) / (high - low || 1)) * bins)))]++;
  return { edges, counts };
}
