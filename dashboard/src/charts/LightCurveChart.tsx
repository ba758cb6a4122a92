import type { LightCurve } from "../api";
import { fixed2, ppm } from "../lib/format";
import { Chart, nearest, padded, Reference, type Plot } from "./Chart";
import { Reading } from "./Frame";
import { dotsPath, linePath } from "./paths";

const flux = (value: number) => value.toFixed(4);

/** White light of one channel and visit: the data, the model, the drift; the residuals below. */
export function LightCurveChart({ curve }: { curve: LightCurve }) {
  const time = padded(curve.time_h, 0.01);
  const name = `${curve.channel}, visit ${curve.visit}`;
  const scatter = Math.sqrt(curve.residual_ppm.reduce((sum, value) => sum + value * value, 0) / Math.max(1, curve.residual_ppm.length));
  const probe = (values: number[]) => (plot: Plot, px: number) => {
    const at = nearest(curve.time_h, plot.x, px);
    const rows: [string, string][] = [["flux", curve.flux[at].toFixed(5)], ["model", curve.model[at].toFixed(5)], ["drift", curve.drift[at].toFixed(5)], ["residual", `${ppm(curve.residual_ppm[at])} ppm`]];
    return { x: plot.x(curve.time_h[at]), y: plot.y(values[at]), content: <Reading head={`${fixed2(curve.time_h[at])} h`} rows={rows} /> };
  };
  return (
    <div className="min-w-0">
      <h3 className="text-xs font-semibold text-ink">{name}</h3>
      <Chart label={`Light curve of ${name}: relative flux against time, with the fitted model and the drift without the transit`} height={190} left={56} x={{ domain: time, label: "" }} y={{ domain: padded([...curve.flux, ...curve.model]), label: "Relative flux", format: flux }} probe={probe(curve.flux)}>
        {({ x, y }) => {
          const xs = curve.time_h.map(x);
          return (
            <g fill="none" strokeLinecap="round">
              <path d={dotsPath(xs, curve.flux.map(y))} stroke="var(--muted)" strokeWidth={2.6} opacity={0.55} />
              <path d={linePath(xs, curve.drift.map(y))} stroke="var(--s3)" strokeWidth={1.6} strokeDasharray="4 3" />
              <path d={linePath(xs, curve.model.map(y))} stroke="var(--s1)" strokeWidth={1.8} />
            </g>
          );
        }}
      </Chart>
      <Chart label={`Residuals of ${name} in ppm against time, root mean square ${ppm(scatter)} ppm`} height={128} left={56} x={{ domain: time, label: "Time (h)" }} y={{ domain: padded([...curve.residual_ppm, 0]), label: `Residual (ppm), RMS ${ppm(scatter)}` }} probe={probe(curve.residual_ppm)}>
        {(plot) => (
          <>
            <path d={dotsPath(curve.time_h.map(plot.x), curve.residual_ppm.map(plot.y))} stroke="var(--muted)" strokeWidth={2.4} strokeLinecap="round" opacity={0.6} />
            <Reference plot={plot} at={0} />
          </>
        )}
      </Chart>
    </div>
  );
}
