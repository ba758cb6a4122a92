import { max } from "d3-array";
import { scaleLinear } from "d3-scale";
import type { RetrievedAtmosphere, RetrievedPair, RetrievedParameter } from "../api";
import { capitalised, formula, percent, tick } from "../lib/format";
import { useWidth } from "../lib/use-width";
import { Frame, Reading, type Probe } from "./Frame";
import { areaPath } from "./paths";

const MARGIN = { top: 18, right: 4, bottom: 22, left: 48 };
const GAP = { x: 6, y: 20 };
const MOST_CELL = 120;
const TONES = 8;
const COLOUR = "var(--s1)";

/** Posteriors of parameters on the diagonal, of their pairs below it; a column shares its parameter's axis. */
export function CornerChart({ label, atmosphere: { parameters, pairs } }: { label: string; atmosphere: RetrievedAtmosphere }) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const count = parameters.length;
  const cell = Math.min(MOST_CELL, (width - MARGIN.left - MARGIN.right) / count - GAP.x);
  const left = (column: number) => MARGIN.left + column * (cell + GAP.x);
  const top = (row: number) => MARGIN.top + row * (cell + GAP.y);
  const chart = { width: left(count - 1) + cell + MARGIN.right, height: top(count - 1) + cell + MARGIN.bottom };
  return (
    <div ref={ref} className="min-w-0">
      {cell > 0 && (
        <Frame {...chart} margin={MARGIN} label={label} probe={(x, y) => reading(parameters, pairs, cell, (x - MARGIN.left) / (cell + GAP.x), (y - MARGIN.top) / (cell + GAP.y), left, top)}>
          {pairs.map((pair) => (
            <g key={`${pair.x} ${pair.y}`} transform={`translate(${left(pair.x)} ${top(pair.y)})`}>
              <Density share={pair.share} cell={cell} />
            </g>
          ))}
          {parameters.map((parameter, at) => (
            <g key={parameter.name}>
              <g transform={`translate(${left(at)} ${top(at)})`}>
                <Distribution parameter={parameter} cell={cell} />
              </g>
              <text x={left(at) + (at === count - 1 ? cell : 0)} y={top(at) - 5} textAnchor={at === count - 1 ? "end" : "start"} style={{ fill: "var(--ink)", fontWeight: 600 }}>{title(parameter)}</text>
              {marks(parameter, cell).map(({ value, pixel }) => (
                <g key={value}>
                  <text x={left(at) + pixel} y={top(count - 1) + cell + 14} textAnchor="middle">{tick(value)}</text>
                  {at > 0 && <text x={MARGIN.left - 5} y={top(at) + cell - pixel} dy="0.32em" textAnchor="end">{tick(value)}</text>}
                </g>
              ))}
            </g>
          ))}
        </Frame>
      )}
    </div>
  );
}

const title = ({ name }: RetrievedParameter) => formula(capitalised(name));

function scaleOf({ edges }: RetrievedParameter, cell: number) {
  return scaleLinear([edges[0], edges[edges.length - 1]], [0, cell]);
}

/** Ticks that don't touch those of the neighbouring cell. */
function marks(parameter: RetrievedParameter, cell: number) {
  const scale = scaleOf(parameter, cell);
  return scale.ticks(Math.max(1, Math.floor(cell / 40))).map((value) => ({ value, pixel: scale(value) })).filter(({ pixel }) => pixel > 8 && pixel < cell - 8);
}

function Distribution({ parameter, cell }: { parameter: RetrievedParameter; cell: number }) {
  const { edges, share, low, high, median } = parameter;
  const x = scaleOf(parameter, cell);
  const y = scaleLinear([0, max(share) || 1], [cell, 2]);
  const xs = share.flatMap((_, at) => [x(edges[at]), x(edges[at + 1])]);
  return (
    <>
      <rect x={x(low)} width={Math.max(1, x(high) - x(low))} height={cell} fill="var(--sunken)" />
      <path d={areaPath(xs, xs.map(() => cell), share.flatMap((value) => [y(value), y(value)]))} fill={COLOUR} fillOpacity={0.4} stroke={COLOUR} strokeWidth={1} />
      <line x1={x(median)} x2={x(median)} y2={cell} stroke="var(--ink)" strokeDasharray="3 2" />
      <Border cell={cell} />
    </>
  );
}

/** A path for each tone, so that the page needs few elements. */
function Density({ share, cell }: { share: number[][]; cell: number }) {
  const size = cell / share.length;
  const most = max(share, (row) => max(row)) || 1;
  const paths = new Array<string>(TONES + 1).fill("");
  share.forEach((row, y) => row.forEach((value, x) => {
    paths[Math.ceil((TONES * value) / most)] += `M${(x * size).toFixed(1)} ${(cell - (y + 1) * size).toFixed(1)}h${size.toFixed(2)}v${size.toFixed(2)}h${(-size).toFixed(2)}z`;
  }));
  return (
    <>
      {paths.slice(1).map((path, tone) => path && <path key={tone} d={path} fill={COLOUR} fillOpacity={(tone + 1) / TONES} />)}
      <Border cell={cell} />
    </>
  );
}

function Border({ cell }: { cell: number }) {
  return <rect width={cell} height={cell} fill="none" stroke="var(--line)" />;
}

type Place = (index: number) => number;

/** The bin under the pointer: which values, and how much of the posterior lies there. */
function reading(parameters: RetrievedParameter[], pairs: RetrievedPair[], cell: number, across: number, down: number, left: Place, top: Place): Probe | null {
  const [column, row] = [Math.floor(across), Math.floor(down)];
  const bins = parameters[0].share.length;
  const within = (steps: number, gap: number) => Math.floor(((steps % 1) * (cell + gap) * bins) / cell);
  const [x, y] = [within(across, GAP.x), bins - 1 - within(down, GAP.y)];
  if (column < 0 || row < 0 || row >= parameters.length || column > row || x >= bins || y < 0) return null;
  const range = (parameter: RetrievedParameter, at: number): [string, string] => [title(parameter), `${tick(parameter.edges[at])} to ${tick(parameter.edges[at + 1])}`];
  const pair = pairs.find((each) => each.x === column && each.y === row);
  const share = pair ? pair.share[y][x] : parameters[column].share[x];
  const rows = [range(parameters[column], x), ...(pair ? [range(parameters[row], y)] : [])];
  const size = cell / bins;
  return { x: left(column) + (x + 0.5) * size, y: pair && top(row) + cell - (y + 0.5) * size, content: <Reading head={`${percent(share)} of the posterior`} rows={rows} /> };
}
