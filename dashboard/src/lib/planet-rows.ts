import type { PlanetRow } from "../api";
import type { Loaded } from "./load";
import { useLoaded } from "./use-loaded";

/** Every planet's row by id; empty until (or unless) the list is there. */
export function useRows(): { loaded: Loaded<PlanetRow[]>; rows: PlanetRow[] } {
  const loaded = useLoaded("api/planets");
  return { loaded, rows: loaded.state === "ready" ? loaded.data : NONE };
}

const NONE: PlanetRow[] = [];
