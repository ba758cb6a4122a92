import { Badge } from "@tremor/react";

const GOOD = "text-good ring-good dark:text-good dark:ring-good";
const BAD = "text-bad ring-bad dark:text-bad dark:ring-bad";
const OPEN = "text-warn ring-warn dark:text-warn dark:ring-warn";
const NEUTRAL = "text-muted ring-line dark:text-muted dark:ring-line";

const TONES: Record<string, string> = {
  ok: GOOD, success: GOOD, done: GOOD, finished: GOOD,
  violated: BAD, failed: BAD, error: BAD, "not reliable": BAD,
  running: OPEN, started: OPEN, simulated: OPEN,
};

/** A word with the colour of what it means. */
export function Status({ text }: { text: string }) {
  return <Badge size="xs" className={`bg-card dark:bg-card ${TONES[text.toLowerCase()] ?? NEUTRAL}`}>{text}</Badge>;
}
