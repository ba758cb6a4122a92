import { useState, type PointerEvent, type ReactNode } from "react";

export interface Margin {
  top: number;
  right: number;
  bottom: number;
  left: number;
}

/** What the pointer is at: where to mark it, and what to tell. */
export interface Probe {
  x: number;
  y?: number;
  content: ReactNode;
}

interface FrameProps {
  width: number;
  height: number;
  margin: Margin;
  label: string;
  probe?: (x: number, y: number) => Probe | null;
  children: ReactNode;
}

/** The SVG of a chart, with a tooltip that follows the pointer. */
export function Frame({ width, height, margin, label, probe, children }: FrameProps) {
  const [at, setAt] = useState<Probe | null>(null);
  function move(event: PointerEvent<SVGSVGElement>) {
    const box = event.currentTarget.getBoundingClientRect();
    setAt(probe?.(event.clientX - box.left, event.clientY - box.top) ?? null);
  }
  return (
    <div className="relative">
      <svg width={width} height={height} role="img" aria-label={label} className="block touch-pan-y" onPointerMove={probe && move} onPointerDown={probe && move} onPointerLeave={() => setAt(null)}>
        {children}
        {at && (
          <g pointerEvents="none">
            <line x1={at.x} x2={at.x} y1={margin.top} y2={height - margin.bottom} stroke="var(--muted)" strokeDasharray="2 3" />
            {at.y !== undefined && <circle cx={at.x} cy={at.y} r={4} fill="none" stroke="var(--ink)" strokeWidth={1.5} />}
          </g>
        )}
      </svg>
      {at && <Tooltip x={at.x} y={at.y ?? margin.top} width={width}>{at.content}</Tooltip>}
    </div>
  );
}

/** A box beside a point, on the side that has room. */
export function Tooltip({ x, y, width, children }: { x: number; y: number; width: number; children: ReactNode }) {
  const side = x > width / 2 ? { right: width - x + 10 } : { left: x + 10 };
  return (
    <div className="pointer-events-none absolute z-10 max-w-[15rem] rounded-md border border-line bg-card px-2.5 py-1.5 text-xs text-ink shadow-lg" style={{ ...side, top: Math.max(0, y - 8) }}>
      {children}
    </div>
  );
}

/** Lines of a tooltip: a head, then names with values. */
export function Reading({ head, rows }: { head: string; rows: [name: string, value: string, colour?: string][] }) {
  return (
    <>
      <p className="mb-0.5 font-medium">{head}</p>
      {rows.map(([name, value, colour]) => (
        <p key={`${name} ${value}`} className="flex justify-between gap-3">
          <span className="inline-flex items-center gap-1.5 text-muted">
            {colour && <span aria-hidden className="inline-block h-2 w-2 rounded-full" style={{ background: colour }} />}
            {name}
          </span>
          <span>{value}</span>
        </p>
      ))}
    </>
  );
}
