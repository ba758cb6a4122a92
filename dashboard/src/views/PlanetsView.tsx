import { useEffect, useId, useMemo, useRef, type RefObject } from "react";
import { PlanetTable } from "../components/PlanetTable";
import { Checkbox } from "../components/Checkbox";
import { Panel } from "../components/Panel";
import { Select } from "../components/Select";
import { Legend } from "../components/Toggles";
import { View } from "../components/View";
import { setColour } from "../lib/colours";
import { FIGURES, knownFigures, withLabelUnit, type Figure } from "../lib/figures";
import { count, plural } from "../lib/format";
import { load } from "../lib/load";
import { BY_ID, usePlanetList, type PlanetList } from "../lib/planet-list";
import { useRows } from "../lib/planet-rows";
import { planetLink, useRoute } from "../lib/route";
import { planetAsked } from "../lib/timing";
import { PlanetDetail } from "./PlanetDetail";

const SETS = ["out of fold", "test"];
const SET_SERIES = SETS.map((name) => ({ name, colour: setColour(name) }));
const AFTER_DRAWING_MS = 80;

/** All planets; with one chosen, the list stands beside it. */
export function PlanetsView({ id }: { id?: number }) {
  const { loaded, rows } = useRows();
  const { params } = useRoute();
  const list = usePlanetList(rows);
  const known = useMemo(() => knownFigures(rows), [rows]);
  const someThin = useMemo(() => rows.some(({ detailed }) => !detailed), [rows]);
  const at = list.rows.findIndex((row) => row.id === id);
  const neighbour = (step: number) => (id === undefined ? undefined : list.rows[at < 0 ? 0 : at + step]?.id);
  const [previous, next] = [neighbour(-1), neighbour(1)];
  const search = useRef<HTMLInputElement>(null);
  useKeys(previous, next, search);
  useEffect(() => {
    const ahead = setTimeout(() => {
      for (const near of [next, previous]) if (near !== undefined) void load(`api/planets/${near}`);
    }, AFTER_DRAWING_MS);
    return () => clearTimeout(ahead);
  }, [next, previous]);

  if (id === undefined) {
    return (
      <View title="Planets" lead={<>Sort by any figure; choose a planet to see its spectrum and all that led to it. <Keys /></>}>
        <Panel testid="panel-planets" title="All planets" loaded={loaded} actions={<Legend series={SET_SERIES} />}>
          {() => (
            <>
              <div className="mb-3"><Controls list={list} figures={known} search={search} total={rows.length} someThin={someThin} /></div>
              <PlanetTable list={list} figures={known} className="h-[calc(100vh-21rem)] max-h-[56rem] min-h-[24rem]" />
            </>
          )}
        </Panel>
      </View>
    );
  }
  const shown = list.order.figure ? [list.order.figure] : FIGURES.slice(0, 1);
  return (
    <div className="grid grid-cols-[minmax(0,1fr)] gap-5 lg:grid-cols-[17.5rem_minmax(0,1fr)]">
      <aside aria-label="List of planets" className="hidden lg:block">
        <div className="sticky top-[7.25rem]">
          <Panel testid="panel-planets" title="Planets" loaded={loaded}>
            {() => (
              <>
                <div className="mb-3"><Controls list={list} figures={known} search={search} total={rows.length} someThin={someThin} narrow /></div>
                <Legend series={SET_SERIES} />
                <PlanetTable list={list} figures={shown} selected={id} className="h-[calc(100vh-27rem)] max-h-[48rem] min-h-[14rem]" />
              </>
            )}
          </Panel>
        </div>
      </aside>
      <PlanetDetail
        id={id}
        steps={
          <nav aria-label="Neighbouring planets" className="flex flex-wrap items-center gap-2">
            <a href={`#/planets${params.size ? `?${params}` : ""}`} className="button lg:hidden">All planets</a>
            <Step name="Previous" testid="previous-planet" order={list.order} id={previous} />
            <Step name="Next" testid="next-planet" order={list.order} id={next} />
          </nav>
        }
      />
    </div>
  );
}

function Keys() {
  return (
    <span className="hidden md:inline">
      Keys: <kbd>j</kbd> and <kbd>k</kbd> or the arrows right and left step through the list, <kbd>/</kbd> searches.
    </span>
  );
}

interface StepProps {
  name: "Previous" | "Next";
  testid: string;
  order: PlanetList["order"];
  id: number | undefined;
}

/** To the planet before or after this one in the list; "worst" while the list has the worst first. */
function Step({ name, testid, order: { figure, falling }, id }: StepProps) {
  const { params } = useRoute();
  const worstFirst = figure && falling === (figure.worse === "high");
  const text = `${name} ${worstFirst ? "worst" : "planet"}`;
  return id === undefined ? (
    <span className="button cursor-default text-muted" data-testid={testid}>{text}</span>
  ) : (
    <a className="button" href={planetLink(id, params)} onClick={planetAsked} data-testid={testid} title={figure && `By ${figure.label.toLowerCase()}`}>{text}</a>
  );
}

interface ControlsProps {
  list: PlanetList;
  figures: Figure[];
  search: RefObject<HTMLInputElement>;
  total: number;
  someThin: boolean; // whether this page lacks panels of some planets
  narrow?: boolean;
}

function Controls({ list, figures, search, total, someThin, narrow = false }: ControlsProps) {
  const field = useId();
  const order = `${list.order.falling ? "-" : ""}${list.order.figure?.key ?? BY_ID}`;
  const sortings = [
    { value: BY_ID, label: "Planet id" },
    ...figures.flatMap((figure) => {
      const label = withLabelUnit(figure);
      return [{ value: figure.key, label: `${label}, rising` }, { value: `-${figure.key}`, label: `${label}, falling` }];
    }),
  ];
  return (
    <div className={narrow ? "grid grid-cols-1 gap-2" : "flex flex-wrap items-center gap-x-4 gap-y-2"}>
      <div className="flex items-center gap-2">
        <label htmlFor={field} className="shrink-0 text-xs text-muted">Search</label>
        <input id={field} ref={search} type="search" inputMode="numeric" className="form-input field w-full min-w-0 sm:max-w-[14rem]" placeholder="planet id" value={list.search} onChange={(event) => list.setSearch(event.target.value)} />
      </div>
      <Select label="Set" value={list.set} options={[{ value: "", label: "All" }, ...SETS.map((name) => ({ value: name, label: name }))]} onChange={list.setSet} />
      <Select label="Sort" value={order} options={sortings} onChange={(value) => list.setOrder(value.replace(/^-/, ""), value.startsWith("-"))} />
      {someThin && <Checkbox label="Only those in full" checked={list.onlyDetailed} onChange={list.setOnlyDetailed} />}
      <p role="status" className="text-xs text-muted">{count(list.rows.length)} of {plural(total, "planet")}</p>
    </div>
  );
}

const FORWARD = ["j", "ArrowRight"];
const BACK = ["k", "ArrowLeft"];

/** Keys work wherever they have no other meaning: not in fields, tabs and what scrolls. */
function useKeys(previous: number | undefined, next: number | undefined, search: RefObject<HTMLInputElement>): void {
  const { params } = useRoute();
  const query = params.toString();
  useEffect(() => {
    function pressed(event: KeyboardEvent) {
      const target = event.target instanceof Element ? event.target : null;
      if (event.ctrlKey || event.metaKey || event.altKey || target?.closest("input, select, textarea, [role=tablist]")) return;
      if (event.key.startsWith("Arrow") && target?.closest("[role=region][tabindex]")) return;
      if (event.key === "/" && search.current) {
        event.preventDefault();
        search.current.focus();
        return;
      }
      const to = FORWARD.includes(event.key) ? next : BACK.includes(event.key) ? previous : undefined;
      if (to === undefined) return;
      event.preventDefault();
      planetAsked();
      location.assign(planetLink(to, new URLSearchParams(query)));
    }
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [previous, next, query, search]);
}
