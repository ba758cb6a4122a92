import type { ReactNode } from "react";

export type Fact = [name: string, value: ReactNode];

/** Names and values, side by side where there is room. */
export function Facts({ facts, className = "" }: { facts: Fact[]; className?: string }) {
  return (
    <dl className={`grid grid-cols-2 gap-x-6 gap-y-3 sm:grid-cols-[repeat(auto-fill,minmax(8.5rem,1fr))] ${className}`}>
      {facts.map(([name, value]) => (
        <div key={name} className="min-w-0">
          <dt className="text-xs text-muted">{name}</dt>
          <dd className="break-words text-sm font-medium text-ink">{value}</dd>
        </div>
      ))}
    </dl>
  );
}
