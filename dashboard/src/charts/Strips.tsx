import { binName } from "../lib/bands";
import { fixed3, formula, spaced } from "../lib/format";
import { Reading } from "./Frame";
import { areaPath } from "./paths";
import { WavelengthChart, type WavelengthPlot } from "./WavelengthChart";

export interface Strip {
  name: string;
  colour: string;
  values: number[]; // a value for each bin
}

interface StripsProps {
  label: string;
  strips: Strip[];
  common: boolean; // one scale for all strips, or each to its own largest value
  format?: (value: number) => string;
}

const ROW = 46;

/** One strip per name against wavelength, each with its own zero line; what is above and below it has a sign. */
export function Strips({ label, strips, common, format = fixed3 }: StripsProps) {
  const sizes = strips.map(({ values }) => Math.max(...values.map(Math.abs)));
  const largest = Math.max(...sizes, 0);
  return (
    <WavelengthChart
      label={`${label}: ${strips.map(({ name }) => name).join(", ")}`}
      height={strips.length * ROW + 76}
      y={{ domain: [strips.length, 0], label: "", ticks: [] }}
      probe={({ bands }, bin) => <Reading head={binName(bands, bin)} rows={strips.map(({ name, colour, values }): [string, string, string] => [name, format(values[bin]), colour])} />}
    >
      {(plot) => strips.map((strip, row) => <OneStrip key={strip.name} plot={flipped(plot)} strip={strip} row={row} size={(common ? largest : sizes[row]) || 1} peak={format(sizes[row])} />)}
    </WavelengthChart>
  );
}

/** Rows count from the top. */
function flipped(plot: WavelengthPlot): WavelengthPlot {
  const [bottom, top] = plot.y.range();
  return { ...plot, y: plot.y.copy().domain([0, Math.max(...plot.y.domain())]).range([top, bottom]) };
}

interface OneStripProps {
  plot: WavelengthPlot;
  strip: Strip;
  row: number;
  size: number;
  peak: string;
}

function OneStrip({ plot: { x, y, width, margin }, strip: { name, colour, values }, row, size, peak }: OneStripProps) {
  const signed = values.some((value) => value < 0);
  const zero = y(row + (signed ? 0.62 : 0.96));
  const reach = (signed ? 0.36 : 0.62) * (y(1) - y(0));
  const ys = values.map((value) => zero - (reach * value) / size);
  return (
    <g>
      <line x1={margin.left} x2={width - margin.right} y1={zero} y2={zero} stroke="var(--line)" />
      <path d={areaPath(x.slice(1), ys.slice(1).map(() => zero), ys.slice(1))} fill={colour} fillOpacity={0.35} stroke={colour} strokeWidth={0.8} />
      <rect x={x[0] - 8} width={16} y={Math.min(zero, ys[0])} height={Math.max(1, Math.abs(zero - ys[0]))} fill={colour} fillOpacity={0.6} />
      <text x={x[1]} y={y(row) + 11} style={{ fill: "var(--ink)", fontWeight: 600 }}>{formula(spaced(name))}</text>
      <text x={margin.left - 6} y={zero} dy="0.32em" textAnchor="end">{peak}</text>
    </g>
  );
}
