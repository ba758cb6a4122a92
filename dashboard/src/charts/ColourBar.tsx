import { RAMP_GRADIENT } from "../lib/colours";

/** What the colours of the ramp mean. */
export function ColourBar({ low, high, label }: { low: string; high: string; label: string }) {
  return (
    <div className="w-64 max-w-full text-xs text-muted">
      <div aria-hidden className="h-2.5 rounded-sm" style={{ background: RAMP_GRADIENT }} />
      <div className="mt-0.5 flex justify-between">
        <span>{low}</span>
        <span>{high}</span>
      </div>
      <div>{label}</div>
    </div>
  );
}
