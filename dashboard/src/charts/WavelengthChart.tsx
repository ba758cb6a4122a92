import { scaleLinear } from "d3-scale";
import type { ReactNode } from "react";
import type { Bands } from "../api";
import { useBands } from "../lib/bands";
import { moleculeColour } from "../lib/colours";
import { formula, tick as plain } from "../lib/format";
import { useWidth } from "../lib/use-width";
import { XAxis, YAxis, type Tick } from "./axes";
import type { Scale } from "./Chart";
import { Frame, type Margin, type Probe } from "./Frame";
import { areaPath, linePath } from "./paths";

export interface WavelengthPlot {
  /** Where each bin lies: FGS1 in its own narrow panel at the left, AIRS by wavelength. */
  x: number[];
  y: Scale;
  width: number;
  height: number;
  margin: Margin;
  bands: Bands;
}

interface WavelengthChartProps {
  label: string;
  height: number;
  y: { domain: [number, number]; label: string; format?: (value: number) => string; ticks?: number[] };
  right?: { label: string; ticks: { at: number; label: string }[] }; // of y
  probe?: (plot: WavelengthPlot, bin: number, y: number) => ReactNode;
  children: (plot: WavelengthPlot) => ReactNode;
}

const FGS1_WIDTH = 34;
const GAP = 14;
const LABEL_WIDTH = 30;
const LANE = 14;

/** The frame of every chart against wavelength: FGS1 and AIRS side by side on one y axis, molecules' bands above it. */
export function WavelengthChart(props: WavelengthChartProps) {
  const [ref, width] = useWidth<HTMLDivElement>();
  return (
    <div ref={ref} className="min-w-0" style={{ minHeight: props.height }}>
      {width > 0 && <Plotted {...props} width={width} />}
    </div>
  );
}

function Plotted({ label, height: least, y: axis, right, probe, width, children }: WavelengthChartProps & { width: number }) {
  const bands = useBands();
  const sides = { right: right ? 44 : 12, bottom: 38, left: 52 };
  const start = sides.left + FGS1_WIDTH + GAP;
  const wavelengths = bands.wavelength_um;
  const airs = scaleLinear([wavelengths[1], wavelengths[wavelengths.length - 1]], [start + 6, width - sides.right - 6]);
  const x = wavelengths.map((wavelength, bin) => (bin === 0 ? sides.left + FGS1_WIDTH / 2 : airs(wavelength)));
  const lanes = lanesOf(bands, x);
  const margin: Margin = { ...sides, top: 22 + LANE * lanes.length };
  const height = least + LANE * Math.max(0, lanes.length - 2);
  const plot: WavelengthPlot = {
    x,
    y: scaleLinear(axis.domain, [height - margin.bottom, margin.top]).clamp(true),
    width, height, margin, bands,
  };
  const yTicks: Tick[] = (axis.ticks ?? plot.y.ticks(Math.max(2, Math.round(height / 50)))).map((value) => ({ at: plot.y(value), label: (axis.format ?? plain)(value) }));
  const xTicks: Tick[] = [{ at: plot.x[0], label: wavelengths[0].toFixed(1) }, ...airs.ticks(Math.max(3, Math.round(width / 90))).map((value) => ({ at: airs(value), label: value.toFixed(1) }))];
  return (
    <Frame {...{ width, height, margin, label }} probe={probe && ((px, py) => probeAt(plot, start, px, py, probe))}>
      <MoleculeBands top={margin.top - 4} lanes={lanes} />
      <YAxis {...{ width, margin }} ticks={yTicks} label={axis.label} />
      {right && <YAxis {...{ width, margin }} right ticks={right.ticks.map(({ at, label: text }) => ({ at: plot.y(at), label: text }))} label={right.label} />}
      <XAxis {...{ width, height, margin }} ticks={xTicks} label="Wavelength (µm)" />
      <rect x={margin.left + FGS1_WIDTH} y={margin.top - 1} width={GAP} height={height - margin.top - margin.bottom + 2} fill="var(--card)" />
      <text x={plot.x[0]} y={margin.top - 6} textAnchor="middle">FGS1</text>
      {children(plot)}
    </Frame>
  );
}

function probeAt(plot: WavelengthPlot, start: number, px: number, py: number, tell: (plot: WavelengthPlot, bin: number, y: number) => ReactNode): Probe | null {
  let bin = 0;
  if (px > start - GAP / 2) {
    bin = 1;
    for (let other = 2; other < plot.x.length; other++) if (Math.abs(plot.x[other] - px) < Math.abs(plot.x[bin] - px)) bin = other;
  }
  const content = tell(plot, bin, py);
  return content ? { x: plot.x[bin], content } : null;
}

interface Absorber {
  molecule: string;
  bands: { from: number; to: number }[]; // pixels
  name: number; // where its name stands: in the middle of its widest band
}

/** Molecules in as few lanes as hold bands and names without overlap. */
function lanesOf({ molecules }: Bands, x: number[]): Absorber[][] {
  const lanes: Absorber[][] = [];
  const taken = ({ bands, name }: Absorber) => [...bands, { from: name - LABEL_WIDTH / 2, to: name + LABEL_WIDTH / 2 }];
  const clash = (one: Absorber, other: Absorber) => taken(one).some((a) => taken(other).some((b) => a.from < b.to && b.from < a.to));
  const absorbers = Object.entries(molecules).map(([molecule, ranges]): Absorber => {
    const bands = ranges.map(([first, last]) => ({ from: x[first] - 1, to: x[last] + 1 }));
    const widest = bands.reduce((best, band) => (band.to - band.from > best.to - best.from ? band : best));
    return { molecule, bands, name: (widest.from + widest.to) / 2 };
  });
  for (const absorber of absorbers.sort((a, b) => a.name - b.name)) {
    const free = lanes.find((lane) => lane.every((other) => !clash(absorber, other)));
    if (free) free.push(absorber);
    else lanes.push([absorber]);
  }
  return lanes;
}

/** Bars above the plot, where tints of bands that overlap don't mix. */
function MoleculeBands({ top: bottom, lanes }: { top: number; lanes: Absorber[][] }) {
  return (
    <g>
      {lanes.map((lane, row) => {
        const top = bottom - LANE * (lanes.length - row);
        return lane.map(({ molecule, bands, name }) => (
          <g key={molecule} fill={moleculeColour(molecule)}>
            {bands.map(({ from, to }) => <rect key={from} x={from} width={to - from} y={top + 1} height={LANE - 4} rx={2} opacity={0.3} />)}
            <text x={name} y={top + 10} textAnchor="middle" style={{ fill: moleculeColour(molecule), fontWeight: 600 }}>{formula(molecule)}</text>
          </g>
        ));
      })}
    </g>
  );
}

type Values = (number | null)[];

interface BinLineProps {
  plot: WavelengthPlot;
  values: Values;
  colour: string;
  dashed?: boolean;
  width?: number;
}

/** One value a bin: a line over AIRS, a short bar at FGS1. */
export function BinLine({ plot: { x, y }, values, colour, dashed = false, width = 1.6 }: BinLineProps) {
  const ys = values.map((value) => (value == null ? null : y(value)));
  const dash = dashed ? "4 3" : undefined;
  return (
    <g fill="none" stroke={colour} strokeWidth={width} strokeDasharray={dash} strokeLinejoin="round">
      <path d={linePath(x.slice(1), ys.slice(1))} />
      {ys[0] != null && <path d={`M${x[0] - 11} ${ys[0]}h22`} strokeWidth={width + 0.6} />}
    </g>
  );
}

/** The range between two values a bin. */
export function BinBand({ plot: { x, y }, low, high, colour, opacity = 0.18 }: { plot: WavelengthPlot; low: Values; high: Values; colour: string; opacity?: number }) {
  const [ylow, yhigh] = [low, high].map((values) => values.map((value) => (value == null ? null : y(value))));
  return (
    <g fill={colour} opacity={opacity}>
      <path d={areaPath(x.slice(1), ylow.slice(1), yhigh.slice(1))} />
      {ylow[0] != null && yhigh[0] != null && <rect x={x[0] - 11} width={22} y={yhigh[0]} height={Math.max(0, ylow[0] - yhigh[0])} />}
    </g>
  );
}
