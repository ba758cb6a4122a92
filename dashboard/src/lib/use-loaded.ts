import { useEffect, useState } from "react";
import { atHand, load, served, type DataOf, type Loaded, type Path } from "./load";

interface Held<P extends Path> {
  path: P;
  result: Loaded<DataOf<P>>;
}

interface Manner {
  meanwhile?: boolean; // the previous path's answer stays until the next one is there
  rest?: number; // ms that a path has to stand before a server is asked
}

/** What a path answers. */
export function useLoaded<P extends Path>(path: P, { meanwhile = false, rest = 0 }: Manner = {}): Loaded<DataOf<P>> {
  const [held, hold] = useState<Held<P>>();
  useEffect(() => {
    let wanted = true;
    const ask = () =>
      void load(path).then((result) => {
        if (wanted) hold({ path, result });
      });
    const waiting = rest && served ? setTimeout(ask, rest) : undefined;
    if (!waiting) ask();
    return () => {
      wanted = false;
      clearTimeout(waiting);
    };
  }, [path, rest]);
  const now = atHand(path);
  if (now) return now;
  if (held && (held.path === path || (meanwhile && held.result.state === "ready"))) return held.result;
  return { state: "loading" };
}
