/** The list of planets as the address asks for it: searched, filtered, sorted. */
import { useMemo } from "react";
import type { PlanetRow } from "../api";
import { defaultOrder, figureOf, sorted, type Order } from "./figures";
import { useParam } from "./route";

export interface PlanetList {
  rows: PlanetRow[];
  order: Order;
  setOrder: (key: string, falling: boolean) => void;
  search: string;
  setSearch: (text: string) => void;
  set: string;
  setSet: (name: string) => void;
  onlyDetailed: boolean;
  setOnlyDetailed: (only: boolean) => void;
}

export const BY_ID = "id";

export function usePlanetList(all: PlanetRow[]): PlanetList {
  const [search, setSearch] = useParam("q", "");
  const [set, setSet] = useParam("set", "");
  const [detailed, setDetailed] = useParam("detailed", "");
  const [asked, ask] = useParam("sort", "");
  const filtered = useMemo(() => all.filter((row) => (!set || row.planets === set) && (!detailed || row.detailed) && String(row.id).includes(search.trim())), [all, set, detailed, search]);
  const order = useMemo((): Order => {
    const key = asked.replace(/^-/, "");
    return key === BY_ID || figureOf(key) ? { figure: figureOf(key), falling: asked.startsWith("-") } : defaultOrder(filtered);
  }, [asked, filtered]);
  const rows = useMemo(() => sorted(filtered, order), [filtered, order]);
  return { rows, order, setOrder: (key, falling) => ask(`${falling ? "-" : ""}${key}`), search, setSearch, set, setSet, onlyDetailed: detailed !== "", setOnlyDetailed: (only) => setDetailed(only ? "1" : "") };
}
