import { Badge } from "@tremor/react";

const TONES: Record<string, string> = {
  ok: "text-good ring-good bg-card", success: "text-good ring-good bg-card", done: "text-good ring-good bg-card", finished: "text-good ring-good bg-card",
  violated: "text-bad ring-bad bg-card", failed: "text-bad ring-bad bg-card", error: "text-bad ring-bad bg-card",
  running: "text-warn ring-warn bg-card", started: "text-warn ring-warn bg-card", simulated: "text-warn ring-warn bg-card",
};

/** A word with the colour of what it means. */
export function Status({ text }: { text: string }) {
  return <Badge size="xs" className={TONES[text.toLowerCase()] ?? "bg-card text-muted ring-line"}>{text}</Badge>;
}
