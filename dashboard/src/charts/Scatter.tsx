import { scaleLinear } from "d3-scale";
import { useEffect, useRef, useState, type PointerEvent, type ReactNode } from "react";
import { tick as plain } from "../lib/format";
import { useTheme } from "../lib/theme";
import { useWidth } from "../lib/use-width";
import { XAxis, YAxis } from "./axes";
import { padded, type Axis } from "./Chart";
import { Tooltip } from "./Frame";

export interface Point {
  id: number;
  x: number;
  y: number;
  colour: string;
}

interface ScatterProps {
  label: string;
  points: Point[];
  height: number;
  x?: Omit<Axis, "domain">; // without axes, only the neighbourhood of points means something
  y?: Omit<Axis, "domain">;
  marked?: number;
  tell: (id: number) => ReactNode;
  onChoose: (id: number) => void;
}

const REACH = 14;

/** Points on a canvas; the pointer finds the nearest one, a click chooses it. */
export function Scatter({ label, points, height, x, y, marked, tell, onChoose }: ScatterProps) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme();
  const [near, setNear] = useState<Point>();
  const margin = x ? { top: 22, right: 14, bottom: 38, left: 52 } : { top: 6, right: 6, bottom: 6, left: 6 };
  const xs = scaleLinear(padded(points.map((point) => point.x)), [margin.left, width - margin.right]);
  const ys = scaleLinear(padded(points.map((point) => point.y)), [height - margin.bottom, margin.top]);

  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !width) return;
    draw(context, points.map((point) => ({ ...point, x: xs(point.x), y: ys(point.y) })), width, height, marked);
    // The scales follow from points, width and height; colours from the theme.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [points, width, height, marked, theme]);

  function find(event: PointerEvent<HTMLCanvasElement>): Point | undefined {
    const box = event.currentTarget.getBoundingClientRect();
    const distance = (point: Point) => Math.hypot(xs(point.x) - (event.clientX - box.left), ys(point.y) - (event.clientY - box.top));
    let best: Point | undefined;
    let least = REACH;
    for (const point of points) {
      const here = distance(point);
      if (here < least) [best, least] = [point, here];
    }
    return best;
  }

  return (
    <div ref={ref} className="relative min-w-0" style={{ height }}>
      {width > 0 && (
        <>
          {x && y && (
            <svg aria-hidden width={width} height={height} className="pointer-events-none absolute inset-0">
              <YAxis {...{ width, margin }} label={y.label} ticks={ys.ticks(5).map((value) => ({ at: ys(value), label: (y.format ?? plain)(value) }))} />
              <XAxis {...{ width, height, margin }} grid label={x.label} ticks={xs.ticks(Math.max(2, Math.round(width / 130))).map((value) => ({ at: xs(value), label: (x.format ?? plain)(value) }))} />
            </svg>
          )}
          <canvas
            ref={canvas}
            role="img"
            aria-label={label}
            className="absolute inset-0"
            style={{ width, height, cursor: near ? "pointer" : "default" }}
            onPointerMove={(event) => setNear(find(event))}
            onPointerLeave={() => setNear(undefined)}
            onPointerUp={(event) => {
              const chosen = find(event);
              if (chosen) onChoose(chosen.id);
            }}
          />
          {near && <Tooltip x={xs(near.x)} y={ys(near.y)} width={width}>{tell(near.id)}</Tooltip>}
        </>
      )}
    </div>
  );
}

function draw(context: CanvasRenderingContext2D, points: Point[], width: number, height: number, marked: number | undefined): void {
  const { canvas } = context;
  const density = devicePixelRatio || 1;
  canvas.width = width * density;
  canvas.height = height * density;
  context.scale(density, density);
  const style = getComputedStyle(canvas);
  const solid = (colour: string) => (colour.startsWith("var(") ? style.getPropertyValue(colour.slice(4, -1)).trim() : colour);
  const palette = new Map<string, string>();
  context.globalAlpha = 0.85;
  context.lineWidth = 0.5;
  const radius = points.length < 200 ? 4.5 : 3.2;
  context.strokeStyle = solid("var(--muted)"); // an edge for colours close to the background's
  for (const { x, y, colour } of points) {
    if (!palette.has(colour)) palette.set(colour, solid(colour));
    context.fillStyle = palette.get(colour) ?? colour;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
  const chosen = points.find(({ id }) => id === marked);
  if (!chosen) return;
  context.globalAlpha = 1;
  context.lineWidth = 2;
  context.strokeStyle = solid("var(--ink)");
  context.beginPath();
  context.arc(chosen.x, chosen.y, radius + 4, 0, 2 * Math.PI);
  context.stroke();
}
