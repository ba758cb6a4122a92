import { Table, TableBody, TableCell, TableHead, TableHeaderCell, TableRow } from "@tremor/react";
import { useMemo, useState, type ReactNode } from "react";
import { count } from "../lib/format";

export interface Column<T> {
  key: string;
  label: string;
  cell: (row: T) => ReactNode;
  value?: (row: T) => string | number | null | undefined; // what to sort by
  numeric?: boolean;
}

interface DataTableProps<T> {
  label: string;
  columns: Column<T>[]; // the first one heads its row
  rows: T[];
  rowKey: (row: T) => string | number;
  sortedBy?: { key: string; falling: boolean };
  page?: number;
}

/** A table sortable by its heads; it scrolls inside its card, and shows a page of rows at first. */
export function DataTable<T>({ label, columns, rows, rowKey, sortedBy, page = 25 }: DataTableProps<T>) {
  const [order, setOrder] = useState(sortedBy);
  const [shown, show] = useState(page);
  const ordered = useMemo(() => {
    const value = columns.find((column) => column.key === order?.key)?.value;
    return value && order ? [...rows].sort((a, b) => compare(value(a), value(b), order.falling)) : rows;
  }, [rows, columns, order]);
  return (
    <>
      <div role="region" aria-label={`${label}, table`} tabIndex={0} className="-mx-1 overflow-x-auto px-1">
        <Table className="overflow-visible">
          <TableHead className="border-line">
            <TableRow>
              {columns.map((column) => (
                <HeadCell key={column.key} column={column} falling={order?.key === column.key ? order.falling : undefined} onSort={(falling) => setOrder({ key: column.key, falling })} />
              ))}
            </TableRow>
          </TableHead>
          <TableBody className="divide-line">
            {ordered.slice(0, shown).map((row) => (
              <TableRow key={rowKey(row)}>
                {columns.map((column, index) =>
                  index === 0 ? (
                    <th key={column.key} scope="row" className={`${CELL} font-medium text-ink ${alignment(column.numeric)}`}>{column.cell(row)}</th>
                  ) : (
                    <TableCell key={column.key} className={`${CELL} text-ink ${alignment(column.numeric)}`}>{column.cell(row)}</TableCell>
                  ),
                )}
              </TableRow>
            ))}
          </TableBody>
        </Table>
      </div>
      {rows.length > shown && (
        <p className="mt-3 flex items-center gap-3 text-xs text-muted">
          {count(shown)} of {count(rows.length)} rows
          <button type="button" className="button" onClick={() => show(shown + 4 * page)}>Show more</button>
        </p>
      )}
    </>
  );
}

const CELL = "whitespace-nowrap px-2.5 py-1.5 text-sm";

function alignment(numeric = false): string {
  return numeric ? "text-right" : "text-left";
}

function compare(a: string | number | null | undefined, b: string | number | null | undefined, falling: boolean): number {
  if (a == null || b == null) return Number(a == null) - Number(b == null);
  const sign = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return falling ? -sign : sign;
}

interface HeadCellProps<T> {
  column: Column<T>;
  falling: boolean | undefined;
  onSort: (falling: boolean) => void;
}

function HeadCell<T>({ column, falling, onSort }: HeadCellProps<T>) {
  const direction = falling === undefined ? undefined : falling ? "descending" : "ascending";
  return (
    <TableHeaderCell scope="col" aria-sort={column.value && direction} className={`${CELL} text-xs font-medium text-muted ${alignment(column.numeric)}`}>
      {column.value ? <SortButton label={column.label} falling={falling} onSort={onSort} startsFalling={column.numeric} /> : column.label}
    </TableHeaderCell>
  );
}

interface SortButtonProps {
  label: string;
  falling: boolean | undefined;
  onSort: (falling: boolean) => void;
  startsFalling?: boolean;
}

export function SortButton({ label, falling, onSort, startsFalling = false }: SortButtonProps) {
  return (
    <button type="button" className={`whitespace-nowrap hover:text-ink ${falling === undefined ? "" : "font-semibold text-ink"}`} onClick={() => onSort(falling === undefined ? startsFalling : !falling)}>
      {label}
      {falling !== undefined && <span aria-hidden className="ml-1">{falling ? "↓" : "↑"}</span>}
    </button>
  );
}
