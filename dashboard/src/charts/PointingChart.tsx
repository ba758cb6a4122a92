import type { Pointing } from "../api";
import { fixed2, fixed3 } from "../lib/format";
import { Chart, nearest, padded } from "./Chart";
import { Reading } from "./Frame";
import { linePath } from "./paths";

export const AXES = { x: "var(--s1)", y: "var(--s2)" };

/** Where the star stood on the FGS1 detector in one visit, and how much it jittered. */
export function PointingChart({ pointing }: { pointing: Pointing }) {
  const offset = (values: (number | null)[]) => {
    const known = values.filter((value): value is number => value != null);
    const mean = known.reduce((sum, value) => sum + value, 0) / Math.max(1, known.length);
    return values.map((value) => (value == null ? null : value - mean));
  };
  return (
    <div className="min-w-0">
      <h3 className="text-xs font-semibold text-ink">Visit {pointing.visit}</h3>
      <Traces name={`Offset of the centroid from its mean, visit ${pointing.visit}`} unit="Centroid offset (px)" time={pointing.time_h} x={offset(pointing.x_px)} y={offset(pointing.y_px)} />
      <Traces name={`Jitter within each bin of time, visit ${pointing.visit}`} unit="Jitter (px)" time={pointing.time_h} x={pointing.jitter_x_px} y={pointing.jitter_y_px} bottom />
    </div>
  );
}

interface TracesProps {
  name: string;
  unit: string;
  time: number[];
  x: (number | null)[];
  y: (number | null)[];
  bottom?: boolean;
}

function Traces({ name, unit, time, x, y, bottom = false }: TracesProps) {
  const traces = { x, y };
  return (
    <Chart
      label={`${name}: x and y in pixels against time in hours`}
      height={bottom ? 156 : 138}
      x={{ domain: padded(time, 0.01), label: bottom ? "Time (h)" : "" }}
      y={{ domain: padded([...x, ...y]), label: unit }}
      probe={(plot, px) => {
        const at = nearest(time, plot.x, px);
        return { x: plot.x(time[at]), content: <Reading head={`${fixed2(time[at])} h`} rows={[["x", `${fixed3(x[at])} px`, AXES.x], ["y", `${fixed3(y[at])} px`, AXES.y]]} /> };
      }}
    >
      {(plot) =>
        (["x", "y"] as const).map((axis) => (
          <path key={axis} d={linePath(time.map(plot.x), traces[axis].map((value) => (value == null ? null : plot.y(value))))} fill="none" stroke={AXES[axis]} strokeWidth={1.3} />
        ))
      }
    </Chart>
  );
}
