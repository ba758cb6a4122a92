import { formula } from "../lib/format";

interface BarsProps {
  label: string;
  rows: { name: string; value: number; text: string; colour?: string }[];
}

/** Horizontal bars with their numbers; bars left of zero are negative. */
export function Bars({ label, rows }: BarsProps) {
  const high = Math.max(0, ...rows.map(({ value }) => value));
  const low = Math.min(0, ...rows.map(({ value }) => value));
  const share = (value: number) => `${(100 * value) / (high - low || 1)}%`;
  return (
    <table className="w-full border-separate border-spacing-y-1.5 text-sm" aria-label={label}>
      <tbody>
        {rows.map(({ name, value, text, colour = "var(--accent)" }) => (
          <tr key={name}>
            <th scope="row" className="w-px min-w-[7rem] max-w-[9rem] pr-3 sm:min-w-0 sm:max-w-none sm:whitespace-nowrap text-left text-xs font-normal text-muted">{formula(name)}</th>
            <td className="relative h-5 min-w-[4rem]">
              <span aria-hidden className="absolute top-1/2 h-4 -translate-y-1/2 rounded-sm" style={{ left: share(Math.min(value, 0) - low), width: share(Math.abs(value)), background: colour }} />
            </td>
            <td className="w-px whitespace-nowrap pl-3 text-right">{text}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
