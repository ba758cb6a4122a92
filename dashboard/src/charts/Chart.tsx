import { bisectCenter, extent } from "d3-array";
import { scaleLinear, scaleLog, type ScaleContinuousNumeric } from "d3-scale";
import type { ReactNode } from "react";
import { tick as plain } from "../lib/format";
import { useWidth } from "../lib/use-width";
import { XAxis, YAxis } from "./axes";
import { Frame, type Margin, type Probe } from "./Frame";

export type Scale = ScaleContinuousNumeric<number, number>;

export interface Axis {
  domain: [number, number];
  label: string;
  log?: boolean;
  format?: (value: number) => string;
  ticks?: number[];
}

export interface Plot {
  x: Scale;
  y: Scale;
  width: number;
  height: number;
  margin: Margin;
}

interface ChartProps {
  label: string;
  height: number;
  x: Axis;
  y: Axis;
  left?: number;
  probe?: (plot: Plot, x: number, y: number) => Probe | null;
  children: (plot: Plot) => ReactNode;
}

/** The frame of every chart with two number axes: it fits its container, and draws grid, axes and tooltip. */
export function Chart({ label, height, x, y, left = 52, probe, children }: ChartProps) {
  const [ref, width] = useWidth<HTMLDivElement>();
  return (
    <div ref={ref} className="min-w-0" style={{ minHeight: height }}>
      {width > 0 && <Plotted {...{ label, height, x, y, probe, width, children }} margin={{ top: 22, right: 14, bottom: x.label ? 38 : 20, left }} />}
    </div>
  );
}

function Plotted({ label, height, x, y, probe, width, margin, children }: Omit<ChartProps, "left"> & { width: number; margin: Margin }) {
  const plot: Plot = {
    x: scaleOf(x).range([margin.left, width - margin.right]),
    y: scaleOf(y).range([height - margin.bottom, margin.top]),
    width, height, margin,
  };
  return (
    <Frame {...{ width, height, margin, label }} probe={probe && ((px, py) => probe(plot, px, py))}>
      <YAxis {...{ width, margin }} ticks={ticksOf(y, plot.y, height / 45)} label={y.label} />
      <XAxis {...{ width, height, margin }} grid ticks={ticksOf(x, plot.x, width / 80)} label={x.label} />
      {children(plot)}
    </Frame>
  );
}

function scaleOf(axis: Axis): Scale {
  return (axis.log ? scaleLog() : scaleLinear()).domain(axis.domain).clamp(true);
}

function ticksOf(axis: Axis, scale: Scale, wanted: number) {
  const found = axis.ticks ?? scale.ticks(Math.max(2, Math.round(wanted)));
  const mantissas = axis.log && axis.domain[1] / axis.domain[0] > 300 ? [1] : [1, 2, 5];
  const values = axis.log && found.length > 8 ? found.filter((value) => mantissas.includes(Number(value.toExponential(3).split("e")[0]))) : found;
  return values.map((value) => ({ at: scale(value), label: (axis.format ?? plain)(value) }));
}

/** From the lowest to the highest of all values, widened a little. */
export function padded(values: Iterable<number | null | undefined>, share = 0.06): [number, number] {
  const [low, high] = extent([...values].filter((value): value is number => value != null && Number.isFinite(value)));
  if (low === undefined) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * share;
  return [low - room, high + room];
}

/** The index of the value nearest to where the pointer is; values rise. */
export function nearest(values: number[], scale: Scale, pixel: number): number {
  return bisectCenter(values, scale.invert(pixel));
}

/** A horizontal line at a value that has a meaning. */
export function Reference({ plot, at }: { plot: Plot; at: number }) {
  const y = plot.y(at);
  return <line x1={plot.margin.left} x2={plot.width - plot.margin.right} y1={y} y2={y} stroke="var(--ink)" strokeDasharray="5 4" strokeWidth={1} />;
}
