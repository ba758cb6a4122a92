import { useLayoutEffect, useRef, useState } from "react";
import type { PlanetRow } from "../api";
import { setColour } from "../lib/colours";
import { withLabelUnit, type Figure } from "../lib/figures";
import { BY_ID, type PlanetList } from "../lib/planet-list";
import { planetLink, useRoute } from "../lib/route";
import { planetAsked } from "../lib/timing";
import { SortButton } from "./DataTable";

const ROW = 32;
const HEAD = 36;
const SPARE = 8;
const CELL = "whitespace-nowrap px-3 text-right";

interface PlanetTableProps {
  list: PlanetList;
  figures: Figure[];
  selected?: number;
  className: string;
}

/** The planets, of which only the rows in sight are drawn. */
export function PlanetTable({ list: { rows, order, setOrder }, figures, selected, className }: PlanetTableProps) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 1000 });
  const { params } = useRoute();
  const first = Math.max(0, Math.floor(view.top / ROW) - SPARE);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + SPARE);
  const someThin = rows.some(({ detailed }) => !detailed);
  const at = rows.findIndex(({ id }) => id === selected);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element || at < 0) return;
    const below = at * ROW - element.scrollTop;
    if (below < 0 || below + HEAD + ROW > element.clientHeight) element.scrollTop = at * ROW + HEAD - element.clientHeight / 2;
  }, [at]);

  function sorting(key: string): boolean | undefined {
    return (order.figure?.key ?? BY_ID) === key ? order.falling : undefined;
  }
  const ariaSort = (key: string) => (sorting(key) === undefined ? undefined : sorting(key) ? "descending" : "ascending");
  return (
    <div
      ref={box}
      role="region"
      aria-label="Planets, table"
      tabIndex={0}
      className={`relative overflow-auto rounded-md border border-line ${className}`}
      onScroll={({ currentTarget }) => setView({ top: currentTarget.scrollTop, height: currentTarget.clientHeight })}
    >
      <table className="w-full text-sm" aria-rowcount={rows.length + 1}>
        <thead className="sticky top-0 z-10 bg-sunken text-xs text-muted">
          <tr style={{ height: HEAD }} aria-rowindex={1}>
            <th scope="col" aria-sort={ariaSort(BY_ID)} className="px-3 text-left font-medium">
              <SortButton label="Planet" falling={sorting(BY_ID)} onSort={(falling) => setOrder(BY_ID, falling)} />
            </th>
            {figures.map((figure) => (
              <th key={figure.key} scope="col" aria-sort={ariaSort(figure.key)} className={`${CELL} font-medium`}>
                <SortButton label={withLabelUnit(figure)} falling={sorting(figure.key)} onSort={(falling) => setOrder(figure.key, falling)} startsFalling={figure.worse === "high"} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr aria-hidden style={{ height: first * ROW }} />}
          {rows.slice(first, last).map((row, index) => (
            <Row key={row.id} row={row} marksDetailed={someThin} figures={figures} index={first + index} selected={row.id === selected} href={planetLink(row.id, params)} />
          ))}
          {last < rows.length && <tr aria-hidden style={{ height: (rows.length - last) * ROW }} />}
        </tbody>
      </table>
      {!rows.length && <p className="p-4 text-muted">No planet fits.</p>}
    </div>
  );
}

interface RowProps {
  row: PlanetRow;
  marksDetailed: boolean;
  figures: Figure[];
  index: number;
  selected: boolean;
  href: string;
}

function Row({ row, marksDetailed, figures, index, selected, href }: RowProps) {
  return (
    <tr style={{ height: ROW }} aria-rowindex={index + 2} className={`border-t border-line ${selected ? "bg-accent-faint" : "hover:bg-sunken"}`}>
      <th scope="row" className={`whitespace-nowrap border-l-2 px-3 text-left font-normal ${selected ? "border-accent" : "border-transparent"}`}>
        <a href={href} onClick={planetAsked} aria-current={selected ? "true" : undefined} className="inline-flex items-center gap-2">
          <span aria-hidden className="h-2 w-2 rounded-full" style={{ background: setColour(row.planets) }} />
          {row.id}
          <span className="sr-only">, {row.planets}</span>
        </a>
        {row.failed && <span className="ml-2 text-xs text-bad">failed</span>}
        {marksDetailed && row.detailed && <span className="ml-2 text-xs text-muted" title="All its panels are on this page">in full</span>}
      </th>
      {figures.map((figure) => (
        <td key={figure.key} className={CELL}>{figure.format(row[figure.key])}</td>
      ))}
    </tr>
  );
}
