import type { ReactNode } from "react";

/** A view: its heading, what it is for, and its panels. */
export function View({ title, lead, children }: { title: string; lead: ReactNode; children: ReactNode }) {
  return (
    <>
      <header className="mb-5">
        <h1 tabIndex={-1} className="text-2xl font-semibold tracking-tight text-ink">{title}</h1>
        <p className="mt-1 max-w-3xl text-muted">{lead}</p>
      </header>
      {children}
    </>
  );
}

/** Panels in one column, or two where there is room. */
export function Grid({ children }: { children: ReactNode }) {
  return <div className="grid grid-cols-[minmax(0,1fr)] gap-4 lg:grid-cols-[repeat(2,minmax(0,1fr))]">{children}</div>;
}

export const WIDE = "lg:col-span-2";
