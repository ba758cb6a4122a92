import { useEffect, useState } from "react";
import { atHand, load, type DataOf, type Loaded, type Path } from "./load";

interface Held<P extends Path> {
  path: P;
  result: Loaded<DataOf<P>>;
}

/** What a path answers. With `meanwhile`, the previous path's answer stays until the next one is there. */
export function useLoaded<P extends Path>(path: P, meanwhile = false): Loaded<DataOf<P>> {
  const [held, hold] = useState<Held<P>>();
  useEffect(() => {
    let wanted = true;
    void load(path).then((result) => {
      if (wanted) hold({ path, result });
    });
    return () => {
      wanted = false;
    };
  }, [path]);
  const now = atHand(path);
  if (now) return now;
  if (held && (held.path === path || (meanwhile && held.result.state === "ready"))) return held.result;
  return { state: "loading" };
}
