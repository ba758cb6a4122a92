import { useState } from "react";
import type { Overlays } from "../api";
import { Bars } from "../charts/Bars";
import { padded } from "../charts/Chart";
import { Reading } from "../charts/Frame";
import { BinLine, WavelengthChart } from "../charts/WavelengthChart";
import { Panel } from "../components/Panel";
import { optionsOf, Select } from "../components/Select";
import { Toggles, useHidden } from "../components/Toggles";
import { Grid, View, WIDE } from "../components/View";
import { binName } from "../lib/bands";
import { coloursOf } from "../lib/colours";
import { capitalised, fixed3, plural, ppm, spaced } from "../lib/format";
import { useLoaded } from "../lib/use-loaded";

export function AttributionView() {
  const overlays = useLoaded("api/overlays");
  const planets = overlays.state === "ready" ? ` Means over ${plural(overlays.data.planets, "planet")}.` : "";
  return (
    <View title="Attribution" lead="Where the network looks, and where the rules of physics push.">
      <Grid>
        <Panel testid="panel-overlays" title="SHAP and rules against wavelength" description={`Solid: mean |SHAP| of the network's correction, by output. Dashed: mean |influence| of a rule, on the axis at the right. The scale is AIRS's; FGS1 may stand above it.${planets}`} loaded={overlays} className={WIDE}>
          {(data) => <Overlaid overlays={data} />}
        </Panel>
        <Panel testid="panel-features" title="Groups of inputs" description="Mean |SHAP| in ppm of everything the network is told." loaded={overlays} className={WIDE}>
          {(data) => <Bars label="Mean SHAP in ppm by group of inputs" rows={Object.entries(data.features).sort(([, a], [, b]) => b - a).map(([name, value]) => ({ name, value, text: `${ppm(value)} ppm` }))} />}
        </Panel>
      </Grid>
    </View>
  );
}

const NO_RULE = "";

function Overlaid({ overlays: { shap, influence } }: { overlays: Overlays }) {
  const outputs = Object.keys(shap);
  const rules = Object.keys(influence);
  const colours = coloursOf(outputs);
  const [hidden, toggle] = useHidden(outputs.slice(3));
  const [rule, setRule] = useState(rules[0] ?? NO_RULE);
  const shown = outputs.filter((name) => !hidden.has(name));
  const top = padded([0, ...shown.flatMap((name) => shap[name].slice(1))])[1]; // FGS1, one wide bin, would dwarf the others
  const push = influence[rule] as number[] | undefined;
  const strongest = push && (Math.max(...push) || 1);
  return (
    <>
      <div className="flex flex-wrap items-center justify-between gap-3">
        <Toggles label="Outputs shown" series={outputs.map((name) => ({ name, colour: colours[name] }))} hidden={hidden} onToggle={toggle} />
        <Select label="Rule" value={rule} options={[...optionsOf(rules, (name) => capitalised(spaced(name))), { value: NO_RULE, label: "None" }]} onChange={setRule} />
      </div>
      <WavelengthChart
        label={`Mean absolute SHAP in ppm against wavelength of ${shown.join(", ")}${push ? `, with the mean absolute influence of the rule ${rule}` : ""}`}
        height={380}
        y={{ domain: [0, top], label: "Mean |SHAP| (ppm)" }}
        right={push && strongest ? { label: "Mean |influence|", ticks: [0, 0.5, 1].map((share) => ({ at: (share * top) / 1.05, label: (share * strongest).toFixed(2) })) } : undefined}
        probe={({ bands }, bin) => (
          <Reading head={binName(bands, bin)} rows={[...shown.map((name): [string, string, string] => [name, `${ppm(shap[name][bin])} ppm`, colours[name]]), ...(push ? [[rule, fixed3(push[bin]), "var(--ink)"] as [string, string, string]] : [])]} />
        )}
      >
        {(plot) => (
          <>
            {shown.map((name) => <BinLine key={name} plot={plot} values={shap[name]} colour={colours[name]} />)}
            {push && strongest && <BinLine plot={plot} values={push.map((value) => (value / strongest) * (top / 1.05))} colour="var(--ink)" dashed width={1.2} />}
          </>
        )}
      </WavelengthChart>
    </>
  );
}
