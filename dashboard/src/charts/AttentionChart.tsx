import { group } from "d3-array";
import { useMemo } from "react";
import type { Attention } from "../api";
import { Toggles, useHidden } from "../components/Toggles";
import { binName } from "../lib/bands";
import { percent } from "../lib/format";
import { padded } from "./Chart";
import { Reading } from "./Frame";
import { BinLine, WavelengthChart, type WavelengthPlot } from "./WavelengthChart";

const KINDS: Record<string, string> = { lambda: "var(--s5)", molecule: "var(--s2)", seam: "var(--s3)", self: "var(--s6)" };
const NAMES: Record<string, string> = { lambda: "neighbours in wavelength", molecule: "bins of one molecule", seam: "FGS1 and AIRS", self: "itself" };
const LEVELS = 4;

interface Edge {
  source: number;
  target: number;
  kind: string;
  share: number;
}

/** Arcs from bin to bin, as thick as their share of attention; below them, what each bin receives. */
export function AttentionChart({ attention }: { attention: Attention }) {
  const edges = useMemo(() => attention.source.map((source, at): Edge => ({ source, target: attention.target[at], kind: attention.kind[at], share: attention.share[at] })), [attention]);
  const kinds = [...new Set(attention.kind)];
  const [hidden, toggle] = useHidden(["self"]);
  const drawn = edges.filter(({ kind }) => !hidden.has(kind));
  return (
    <>
      <Toggles label="Kinds of edges" series={kinds.map((kind) => ({ name: kind, label: NAMES[kind] ?? kind, colour: KINDS[kind] ?? "var(--s6)" }))} hidden={hidden} onToggle={toggle} />
      <WavelengthChart
        label={`Arcs between wavelength bins for the ${edges.length} edges attended to most, by kind: ${kinds.join(", ")}`}
        height={250}
        y={{ domain: [0, 1], label: "", ticks: [] }}
        probe={({ bands }, bin) => {
          const into = drawn.filter(({ target }) => target === bin).sort((a, b) => b.share - a.share).slice(0, 4);
          return <Reading head={`Into ${binName(bands, bin)}`} rows={into.length ? into.map(({ source, kind, share }): [string, string, string] => [`from bin ${source}`, percent(share), KINDS[kind]]) : [["no edge among these", ""]]} />;
        }}
      >
        {(plot) => <Arcs plot={plot} edges={drawn} />}
      </WavelengthChart>
      <WavelengthChart
        label="Attention that each bin receives from others, against wavelength"
        height={178}
        y={{ domain: [0, padded(attention.received)[1]], label: "Attention received" }}
        probe={({ bands }, bin) => <Reading head={binName(bands, bin)} rows={[["received", attention.received[bin].toFixed(3)]]} />}
      >
        {(plot) => <BinLine plot={plot} values={attention.received} colour="var(--ink)" />}
      </WavelengthChart>
    </>
  );
}

function Arcs({ plot, edges }: { plot: WavelengthPlot; edges: Edge[] }) {
  const strongest = Math.max(...edges.map(({ share }) => share), 0);
  const levelOf = ({ share }: Edge) => Math.min(LEVELS - 1, Math.floor((LEVELS * share) / (strongest || 1)));
  const floor = plot.height - plot.margin.bottom;
  const tallest = floor - plot.margin.top;
  const longest = plot.x[plot.x.length - 1] - plot.x[0];
  const arc = ({ source, target }: Edge) => {
    const [from, to] = [plot.x[source], plot.x[target]];
    if (source === target) return `M${from} ${floor - 3}h0`;
    const rise = Math.max(6, tallest * Math.sqrt(Math.abs(to - from) / longest));
    return `M${from.toFixed(1)} ${floor}C${from.toFixed(1)} ${(floor - 1.33 * rise).toFixed(1)} ${to.toFixed(1)} ${(floor - 1.33 * rise).toFixed(1)} ${to.toFixed(1)} ${floor}`;
  };
  const grouped = [...group(edges, (edge) => edge.kind, levelOf)].flatMap(([kind, levels]) => [...levels].map(([level, members]) => ({ kind, level, members })));
  return (
    <g fill="none" strokeLinecap="round">
      {grouped.map(({ kind, level, members }) => (
        <path key={`${kind} ${level}`} d={members.map(arc).join("")} stroke={KINDS[kind] ?? "var(--s6)"} strokeWidth={kind === "self" ? 3.5 : 0.8 + 0.6 * level} opacity={0.3 + 0.2 * level} />
      ))}
    </g>
  );
}
