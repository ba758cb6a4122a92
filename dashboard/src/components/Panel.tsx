import { Card } from "@tremor/react";
import { useEffect, useId, useState, type ReactNode } from "react";
import type { Missing } from "../api";
import type { Loaded } from "../lib/load";
import { panelSettled } from "../lib/timing";
import { Boundary, Fault } from "./Boundary";
import { Command } from "./Command";

interface PanelProps<T> {
  testid: string;
  title: string;
  description?: ReactNode;
  loaded: Loaded<T>;
  children: (data: T) => ReactNode;
  actions?: ReactNode;
  className?: string;
}

/** A card that shows its data, or what is missing and the command that makes it, or what went wrong with it alone. */
export function Panel<T>({ testid, title, description, loaded, children, actions, className = "" }: PanelProps<T>) {
  const heading = useId();
  const [failed, setFailed] = useState<unknown>();
  const data = loaded.state === "ready" ? loaded.data : undefined;
  const state = data !== undefined && failed === data ? "error" : loaded.state;
  useEffect(() => {
    if (state !== "loading") panelSettled();
  }, [state]);
  return (
    <Card className={`min-w-0 p-4 sm:p-5 ${className}`} data-testid={testid} data-state={state} role="region" aria-labelledby={heading}>
      <div className="mb-3 flex flex-wrap items-start justify-between gap-x-4 gap-y-2">
        <div className="min-w-0 max-w-3xl">
          <h2 id={heading} className="text-base font-semibold leading-6 text-ink">{title}</h2>
          {description && <p className="mt-0.5 text-xs text-muted">{description}</p>}
        </div>
        {state === "ready" && actions}
      </div>
      {loaded.state === "loading" && <p className="py-8 text-center text-muted">Loading</p>}
      {loaded.state === "missing" && <MissingNote missing={loaded.missing} />}
      {loaded.state === "error" && <Fault message={loaded.message} />}
      {loaded.state === "ready" && (
        <Boundary data={loaded.data} onError={() => setFailed(loaded.data)}>
          <Drawn draw={() => children(loaded.data)} />
        </Boundary>
      )}
    </Card>
  );
}

/** Calls the drawing function as a component of its own, so that what it throws reaches the boundary. */
function Drawn({ draw }: { draw: () => ReactNode }) {
  return <>{draw()}</>;
}

function MissingNote({ missing: { what, command } }: { missing: Missing }) {
  const sentence = /^(is|are|was|were|has|have|needs|lacks)\b/.test(what) ? `This panel ${what}` : what.charAt(0).toUpperCase() + what.slice(1);
  return (
    <div className="rounded-lg bg-sunken p-4">
      <p className="text-ink">{/[.!?]$/.test(sentence) ? sentence : `${sentence}.`}</p>
      {command && (
        <>
          <p className="mb-1.5 mt-3 text-xs text-muted">This command makes it:</p>
          <Command text={command} />
        </>
      )}
    </div>
  );
}
