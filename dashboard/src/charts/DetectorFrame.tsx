import { quantileSorted } from "d3-array";
import { useEffect, useMemo, useRef, useState, type PointerEvent } from "react";
import type { Frame } from "../api";
import { ColourBar } from "./ColourBar";
import { Tooltip } from "./Frame";
import { ramp } from "../lib/colours";
import { count, fixed2 } from "../lib/format";
import { useWidth } from "../lib/use-width";

interface Pixel {
  row: number;
  column: number;
}

/** A raw frame as an image, stretched between percentiles; the pointer reads a pixel. */
export function DetectorFrame({ frame }: { frame: Frame }) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [pixel, setPixel] = useState<Pixel | null>(null);
  const { rows, columns, adu } = frame;
  const [low, high] = useMemo(() => {
    const ordered = [...adu].sort((a, b) => a - b);
    return [quantileSorted(ordered, 0.01) ?? 0, quantileSorted(ordered, 0.995) ?? 1];
  }, [adu]);
  const imageWidth = Math.min(width, rows === columns ? 300 : width);
  const scale = imageWidth / columns;
  const stretch = rows === columns ? 1 : Math.max(1, Math.round(170 / (rows * scale)));
  const height = rows * scale * stretch;

  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    const image = context.createImageData(columns, rows);
    adu.forEach((value, at) => image.data.set([...ramp((value - low) / (high - low || 1)), 255], 4 * at));
    context.putImageData(image, 0, 0);
  }, [adu, rows, columns, low, high, width]);

  function point(event: PointerEvent<HTMLCanvasElement>) {
    const box = event.currentTarget.getBoundingClientRect();
    const within = (share: number, size: number) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
    setPixel({ column: within((event.clientX - box.left) / box.width, columns), row: within((event.clientY - box.top) / box.height, rows) });
  }

  const [first, last] = frame.extraction;
  return (
    <div ref={ref} className="min-w-0">
      {width > 0 && (
        <>
          <div className="relative" style={{ width: imageWidth, height }}>
            <canvas
              ref={canvas}
              width={columns}
              height={rows}
              role="img"
              aria-label={`Raw ${frame.channel} frame of ${rows} rows and ${columns} columns, ${fixed2(frame.time_h)} hours into the visit; from ${count(low)} to ${count(high)} ADU`}
              className="h-full w-full rounded"
              style={{ imageRendering: "pixelated" }}
              onPointerMove={point}
              onPointerDown={point}
              onPointerLeave={() => setPixel(null)}
            />
            {first !== undefined && last !== undefined && (
              <div aria-hidden className="pointer-events-none absolute inset-x-0 border-y border-dashed border-white mix-blend-difference" style={{ top: first * scale * stretch, height: (last - first + 1) * scale * stretch }} />
            )}
            {pixel && (
              <Tooltip x={(pixel.column + 0.5) * scale} y={(pixel.row + 0.5) * scale * stretch} width={imageWidth}>
                row {pixel.row}, column {pixel.column}: <strong>{count(adu[pixel.row * columns + pixel.column])} ADU</strong>
              </Tooltip>
            )}
          </div>
          <div className="mt-3 flex flex-wrap items-end justify-between gap-3">
            <ColourBar low={count(Math.round(low))} high={count(Math.round(high))} label="ADU, 1st to 99.5th percentile" />
            <p className="text-xs text-muted">
              {fixed2(frame.time_h)} h into the visit
              {stretch > 1 && `; rows stretched ${stretch} times`}
              {first !== undefined && `; dashed: rows ${first} to ${last}, which hold the spectrum`}
            </p>
          </div>
        </>
      )}
    </div>
  );
}
