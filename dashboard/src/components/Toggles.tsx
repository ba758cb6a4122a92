import { useState } from "react";
import { formula } from "../lib/format";

export interface Series {
  name: string;
  label?: string;
  colour: string;
  dashed?: boolean;
}

interface TogglesProps {
  label: string;
  series: Series[];
  hidden: ReadonlySet<string>;
  onToggle: (name: string) => void;
}

/** A legend whose entries switch what they stand for. */
export function Toggles({ label, series, hidden, onToggle }: TogglesProps) {
  return (
    <div role="group" aria-label={label} className="mb-3 flex flex-wrap gap-1.5">
      {series.map(({ name, label: text = name, colour, dashed }) => (
        <button
          key={name}
          type="button"
          aria-pressed={!hidden.has(name)}
          onClick={() => onToggle(name)}
          className={`inline-flex min-h-7 items-center gap-1.5 rounded-full border px-2.5 text-xs transition-colors hover:border-muted ${hidden.has(name) ? "border-dashed border-line text-muted" : "border-line bg-sunken text-ink"}`}
        >
          <Swatch colour={hidden.has(name) ? "var(--line)" : colour} dashed={dashed} />
          {formula(text)}
        </button>
      ))}
    </div>
  );
}

/** A legend that only tells. */
export function Legend({ series }: { series: Series[] }) {
  return (
    <ul className="mb-3 flex flex-wrap gap-x-4 gap-y-1 text-xs text-muted">
      {series.map(({ name, label = name, colour, dashed }) => (
        <li key={name} className="inline-flex items-center gap-1.5">
          <Swatch colour={colour} dashed={dashed} />
          {label}
        </li>
      ))}
    </ul>
  );
}

function Swatch({ colour, dashed = false }: { colour: string; dashed?: boolean }) {
  return <span aria-hidden className="inline-block w-3.5" style={{ borderTop: `3px ${dashed ? "dotted" : "solid"} ${colour}` }} />;
}

/** Names that are switched off. */
export function useHidden(initially: string[] = []): [ReadonlySet<string>, (name: string) => void] {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(() => new Set(initially));
  function toggle(name: string) {
    setHidden((before) => {
      const next = new Set(before);
      if (!next.delete(name)) next.add(name);
      return next;
    });
  }
  return [hidden, toggle];
}
