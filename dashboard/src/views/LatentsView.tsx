import { useId, useMemo } from "react";
import type { Embedding, PlanetRow, StepMap } from "../api";
import { ColourBar } from "../charts/ColourBar";
import { Reading } from "../charts/Frame";
import { Scatter, type Point } from "../charts/Scatter";
import { Panel } from "../components/Panel";
import { optionsOf, Select } from "../components/Select";
import { Legend } from "../components/Toggles";
import { Grid, View, WIDE } from "../components/View";
import { rampColour, setColour } from "../lib/colours";
import { figureOf, knownFigures, withLabelUnit, type Figure } from "../lib/figures";
import { plural } from "../lib/format";
import { useRows } from "../lib/planet-rows";
import { planetLink, useParam } from "../lib/route";
import { part } from "../lib/load";
import { useLoaded } from "../lib/use-loaded";

const SETS = ["out of fold", "test"];

export function LatentsView() {
  const embedding = useLoaded("api/embedding");
  const { rows } = useRows();
  const byId = useMemo(() => new Map(rows.map((row) => [row.id, row])), [rows]);
  const figures = useMemo(() => knownFigures(rows), [rows]);
  const [colourBy, setColourBy] = useParam("colour", "planets");
  const options = [{ value: "planets", label: "Set" }, ...figures.map((figure) => ({ value: figure.key, label: withLabelUnit(figure) }))];
  return (
    <View title="Latents" lead="Planets that lie near each other here look alike to the network. Distances within a neighbourhood mean more than those across the map.">
      <Grid>
        <Panel
          testid="panel-embedding"
          className={WIDE}
          title={embedding.state === "ready" ? `Maps of ${embedding.data.of}` : "Maps of the latents"}
          description="A click on a point opens its planet."
          loaded={embedding}
          actions={<Select label="Colour by" value={colourBy} options={options} onChange={setColourBy} />}
        >
          {(data) => <Maps embedding={data} byId={byId} figure={figureOf(colourBy)} />}
        </Panel>
        <Panel
          testid="panel-steps"
          className={WIDE}
          title="Map of the latents of FGS1's time steps"
          description="By UMAP, a point for each step of some planets' light curves. A network that recognises transits separates steps inside from steps outside. A click on a point opens its planet."
          loaded={part(embedding, (data) => data.steps)}
        >
          {(data) => <Steps steps={data} />}
        </Panel>
      </Grid>
    </View>
  );
}

function Steps({ steps }: { steps: StepMap }) {
  const points = useMemo(() => steps.points.map(([x, y], at): Point => ({ id: at, x, y, colour: rampColour(steps.transit[at]) })), [steps]);
  const planets = new Set(steps.planet).size;
  return (
    <>
      <div className="mb-4"><ColourBar low="outside" high="mid-transit" label="Depth of the fitted transit at this step" /></div>
      <div className="rounded-lg border border-line">
        <Scatter
          label={`UMAP of ${plural(points.length, "step")} of ${plural(planets, "planet")}, coloured by the transit's depth`}
          points={points}
          height={420}
          tell={(at) => <Reading head={`Planet ${steps.planet[at]}`} rows={[["step", String(steps.step[at])], ["transit", steps.transit[at].toFixed(2)]]} />}
          onChoose={(at) => location.assign(planetLink(steps.planet[at]))}
        />
      </div>
    </>
  );
}

interface MapsProps {
  embedding: Embedding;
  byId: Map<number, PlanetRow>;
  figure: Figure | undefined;
}

function Maps({ embedding, byId, figure }: MapsProps) {
  const names = Object.keys(embedding.maps);
  const [markedText, mark] = useParam("planet", "");
  const marked = Number(markedText) || undefined;
  const range = useMemo(() => rangeOf(embedding, byId, figure), [embedding, byId, figure]);
  const maps = useMemo(() => names.map((name) => ({ name, points: pointsOf(embedding, name, byId, figure, range) })), [embedding, byId, figure, range]); // eslint-disable-line react-hooks/exhaustive-deps
  return (
    <>
      <div className="mb-4">
        {figure ? <ColourBar low={figure.format(range[0])} high={figure.format(range[1])} label={`${withLabelUnit(figure)}, 2nd to 98th percentile${onLog(figure, range) ? ", by its logarithm" : ""}`} /> : <Legend series={SETS.map((name) => ({ name, colour: setColour(name) }))} />}
      </div>
      <div className="grid grid-cols-[minmax(0,1fr)] gap-6 lg:grid-cols-[repeat(2,minmax(0,1fr))]">
        {maps.map(({ name, points }) => (
          <div key={name} className="min-w-0">
            <h3 className="mb-2 text-xs font-semibold text-ink">{name}</h3>
            <div className="rounded-lg border border-line">
              <Scatter
                label={`${name} of ${plural(points.length, "planet")}, coloured by ${figure?.label ?? "set"}`}
                points={points}
                height={420}
                marked={marked}
                tell={(id) => <Reading head={`Planet ${id}`} rows={readings(byId.get(id), figure)} />}
                onChoose={(id) => location.assign(planetLink(id))}
              />
            </div>
          </div>
        ))}
      </div>
      <Neighbours embedding={embedding} marked={marked} onMark={mark} />
    </>
  );
}

function rangeOf(embedding: Embedding, byId: Map<number, PlanetRow>, figure: Figure | undefined): [number, number] {
  const values = figure ? embedding.planet.map((id) => byId.get(id)?.[figure.key]).filter((value): value is number => value != null).sort((a, b) => a - b) : [];
  if (!values.length) return [0, 1];
  const at = (share: number) => values[Math.round(share * (values.length - 1))];
  return [at(0.02), at(0.98)];
}

function onLog(figure: Figure | undefined, [low]: [number, number]): boolean {
  return !!figure?.log && low > 0;
}

function pointsOf(embedding: Embedding, name: string, byId: Map<number, PlanetRow>, figure: Figure | undefined, range: [number, number]): Point[] {
  const scale = onLog(figure, range) ? Math.log : Number;
  const [low, high] = range.map(scale);
  return embedding.planet.map((id, at) => {
    const [x, y] = embedding.maps[name][at];
    const row = byId.get(id);
    const value = figure && row?.[figure.key];
    const colour = !figure ? setColour(row?.planets ?? "") : value == null ? "var(--line)" : rampColour((scale(value) - low) / (high - low || 1));
    return { id, x, y, colour };
  });
}

function readings(row: PlanetRow | undefined, figure: Figure | undefined): [string, string][] {
  if (!row) return [];
  return [["set", row.planets], ...[figureOf("score"), figure].filter((shown, at, all): shown is Figure => !!shown && all.indexOf(shown) === at).map((shown): [string, string] => [withLabelUnit(shown), shown.format(row[shown.key])])];
}

/** The way to a planet without a pointer: choose it, see it marked, follow it or one of its neighbours. */
function Neighbours({ embedding, marked, onMark }: { embedding: Embedding; marked: number | undefined; onMark: (id: string) => void }) {
  const [map, setMap] = useParam("map", Object.keys(embedding.maps)[0] ?? "");
  const list = useId();
  const field = useId();
  const near = useMemo(() => nearestTo(embedding, map, marked), [embedding, map, marked]);
  return (
    <div className="mt-5 border-t border-line pt-4">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
        <label htmlFor={field} className="text-xs text-muted">Mark planet</label>
        <input id={field} list={list} inputMode="numeric" className="form-input field w-40" placeholder="id" defaultValue={marked ?? ""} onChange={(event) => {
          const id = Number(event.target.value);
          if (embedding.planet.includes(id)) onMark(String(id));
        }} />
        <datalist id={list}>{embedding.planet.map((id) => <option key={id} value={id} />)}</datalist>
        <Select label="Neighbours in" value={map} options={optionsOf(Object.keys(embedding.maps))} onChange={setMap} />
      </div>
      {marked !== undefined && near.length > 0 ? (
        <p className="mt-3">
          <a href={planetLink(marked)}>Planet {marked}</a>; nearest to it: {near.map((id, at) => <span key={id}>{at > 0 && ", "}<a href={planetLink(id)}>{id}</a></span>)}
        </p>
      ) : (
        <p className="mt-3 text-muted">Choose a planet to mark it on both maps and to list its neighbours.</p>
      )}
    </div>
  );
}

function nearestTo(embedding: Embedding, map: string, marked: number | undefined): number[] {
  const points = embedding.maps[map] ?? [];
  const here = marked === undefined ? undefined : points[embedding.planet.indexOf(marked)];
  if (!here) return [];
  const distance = ([x, y]: number[]) => Math.hypot(x - here[0], y - here[1]);
  return embedding.planet.map((id, at) => ({ id, far: distance(points[at]) })).filter(({ id }) => id !== marked).sort((a, b) => a.far - b.far).slice(0, 8).map(({ id }) => id);
}
