import type { Margin } from "./Frame";

export interface Tick {
  at: number; // pixels
  label: string;
}

interface AxisProps {
  ticks: Tick[];
  label: string;
  width: number;
  height: number;
  margin: Margin;
}

/** Numbers and a title under the plot; `grid` draws lines up through it. */
export function XAxis({ ticks, label, width, height, margin, grid = false }: AxisProps & { grid?: boolean }) {
  const bottom = height - margin.bottom;
  return (
    <g>
      {grid && ticks.map(({ at }) => <line key={at} x1={at} x2={at} y1={margin.top} y2={bottom} stroke="var(--grid)" />)}
      {ticks.map((tick) => (
        <text key={tick.at} x={tick.at} y={bottom + 15} textAnchor="middle">{tick.label}</text>
      ))}
      <text x={(margin.left + width - margin.right) / 2} y={height - 4} textAnchor="middle">{label}</text>
    </g>
  );
}

/** Numbers left of the plot, a title above them, and lines through the plot. */
export function YAxis({ ticks, label, width, margin, right = false }: Omit<AxisProps, "height"> & { right?: boolean }) {
  const edge = right ? width - margin.right : margin.left;
  return (
    <g>
      {!right && ticks.map(({ at }) => <line key={at} x1={margin.left} x2={width - margin.right} y1={at} y2={at} stroke="var(--grid)" />)}
      {ticks.map((tick) => (
        <text key={tick.at} x={right ? edge + 6 : edge - 6} y={tick.at} dy="0.32em" textAnchor={right ? "start" : "end"}>{tick.label}</text>
      ))}
      <text x={right ? width : 0} y={11} textAnchor={right ? "end" : "start"}>{label}</text>
    </g>
  );
}
