import { useState } from "react";

/** A command with a button that copies it. */
export function Command({ text }: { text: string }) {
  const [told, tell] = useState("");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      tell("Copied");
    } catch {
      tell("Copying isn't allowed here");
    }
    setTimeout(() => tell(""), 2000);
  }
  return (
    <div className="flex flex-wrap items-center gap-2">
      <code className="min-w-0 break-words rounded-md border border-line bg-card px-2.5 py-1.5 text-ink">{text}</code>
      <button type="button" className="button" onClick={() => void copy()}>Copy</button>
      <span role="status" className="text-xs text-muted">{told}</span>
    </div>
  );
}
