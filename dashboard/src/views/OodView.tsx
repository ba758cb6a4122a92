import { useMemo } from "react";
import type { PlanetRow } from "../api";
import { counted, HistogramChart } from "../charts/HistogramChart";
import { Reading } from "../charts/Frame";
import { Scatter } from "../charts/Scatter";
import { DataTable, type Column } from "../components/DataTable";
import { Panel } from "../components/Panel";
import { Select } from "../components/Select";
import { Legend } from "../components/Toggles";
import { Grid, View, WIDE } from "../components/View";
import { setColour } from "../lib/colours";
import { figureOf, knownFigures, withLabelUnit, type Figure } from "../lib/figures";
import { percent, plural, share } from "../lib/format";
import { useRows } from "../lib/planet-rows";
import { planetLink, useParam } from "../lib/route";

const DISTANCES = ["unknown", "latent_distance", "residual_distance"].flatMap((key) => figureOf(key) ?? []);
const SETS = ["out of fold", "test"];

export function OodView() {
  const { loaded, rows } = useRows();
  const [distanceKey, setDistance] = useParam("distance", "unknown");
  const known = useMemo(() => knownFigures(rows), [rows]);
  const others = known.filter((figure) => !DISTANCES.includes(figure));
  const [againstKey, setAgainst] = useParam("against", others.some(({ key }) => key === "airs_shape_error_ppm") ? "airs_shape_error_ppm" : "sigma_ppm");
  const distances = known.filter((figure) => DISTANCES.includes(figure));
  const distance = distances.find(({ key }) => key === distanceKey) ?? distances[0];
  const against = figureOf(againstKey);
  const pick = (figures: Figure[]) => figures.map((figure) => ({ value: figure.key, label: withLabelUnit(figure) }));
  return (
    <View title="Out of distribution" lead="Planets unlike those that were learned from: expect larger errors there, and wider bars.">
      <Grid>
        {distances.slice(0, 2).map((figure) => (
          <Panel key={figure.key} testid={figure.key === "unknown" ? "panel-ood" : "panel-ood-latent"} title={figure.label} description={MEANINGS[figure.key]} loaded={loaded}>
            {(planets) => <Distribution rows={planets} figure={figure} />}
          </Panel>
        ))}
        {!distances.length && (
          <Panel testid="panel-ood" title="Unknown" loaded={loaded} className={WIDE}>
            {() => <p>No planet of this run has a distance from what was learned.</p>}
          </Panel>
        )}
        {distance && against && (
          <Panel
            testid="panel-ood-scatter"
            title="Distance and error"
            description="A click on a point opens its planet."
            loaded={loaded}
            className={WIDE}
            actions={
              <div className="flex flex-wrap gap-3">
                <Select label="Across" value={distance.key} options={pick(distances)} onChange={setDistance} />
                <Select label="Up" value={against.key} options={pick(others)} onChange={setAgainst} />
              </div>
            }
          >
            {(planets) => <Against rows={planets} distance={distance} against={against} />}
          </Panel>
        )}
        {distance && (
          <Panel testid="panel-ood-table" title="The farthest planets" description={`By ${distance.label.toLowerCase()}.`} loaded={loaded} className={WIDE}>
            {(planets) => <Farthest rows={planets} distance={distance} figures={known} />}
          </Panel>
        )}
      </Grid>
    </View>
  );
}

const MEANINGS: Partial<Record<Figure["key"], string>> = {
  unknown: "Probability that no training spectrum is of the planet's kind.",
  latent_distance: "Percentile of the distance of the planet's latent among training planets.",
};

function Distribution({ rows, figure }: { rows: PlanetRow[]; figure: Figure }) {
  const bars = SETS.map((set) => {
    const values = rows.filter((row) => row.planets === set).map((row) => row[figure.key]).filter((value): value is number => value != null);
    return { name: set, colour: setColour(set), filled: set === SETS[0], ...counted(values, [0, 1], 40) };
  });
  return (
    <>
      <Legend series={bars} />
      <HistogramChart label={`Histogram of ${figure.label.toLowerCase()} over planets, out of fold and test`} edges={bars[0].edges} bars={bars} x={figure.label} />
    </>
  );
}

function Against({ rows, distance, against }: { rows: PlanetRow[]; distance: Figure; against: Figure }) {
  const points = useMemo(
    () =>
      rows.flatMap((row) => {
        const [x, y] = [row[distance.key], row[against.key]];
        return x == null || y == null ? [] : [{ id: row.id, x, y, colour: setColour(row.planets) }];
      }),
    [rows, distance, against],
  );
  const byId = useMemo(() => new Map(rows.map((row) => [row.id, row])), [rows]);
  if (!points.length) return <p>No planet has both figures: no truth is known.</p>;
  return (
    <>
      <Legend series={SETS.map((name) => ({ name, colour: setColour(name) }))} />
      <Scatter
        label={`${withLabelUnit(against)} against ${distance.label.toLowerCase()} of ${plural(points.length, "planet")}`}
        points={points}
        height={340}
        x={axisOf(distance)}
        y={axisOf(against)}
        tell={(id) => <Reading head={`Planet ${id}`} rows={[distance, against].map((figure) => [figure.label, figure.format(byId.get(id)?.[figure.key])])} />}
        onChoose={(id) => location.assign(planetLink(id))}
      />
    </>
  );
}

function axisOf(figure: Figure) {
  return { label: withLabelUnit(figure), format: figure.format === percent ? share : undefined };
}

function Farthest({ rows, distance, figures }: { rows: PlanetRow[]; distance: Figure; figures: Figure[] }) {
  const columns: Column<PlanetRow>[] = [
    { key: "id", label: "Planet", cell: ({ id }) => <a href={planetLink(id)}>{id}</a>, value: ({ id }) => id },
    { key: "planets", label: "Set", cell: ({ planets }) => planets, value: ({ planets }) => planets },
    ...figures.map((figure): Column<PlanetRow> => ({ key: figure.key, label: withLabelUnit(figure), numeric: true, cell: (row) => figure.format(row[figure.key]), value: (row) => row[figure.key] })),
  ];
  return <DataTable key={distance.key} label="The farthest planets" columns={columns} rows={rows} rowKey={({ id }) => id} sortedBy={{ key: distance.key, falling: true }} page={15} />;
}
