import { useId, useState } from "react";
import type { Event } from "../api";
import { DataTable, type Column } from "../components/DataTable";
import { Panel } from "../components/Panel";
import { Status } from "../components/Status";
import { View } from "../components/View";
import { duration, moment } from "../lib/format";
import { useLoaded } from "../lib/use-loaded";

export function LogView() {
  const log = useLoaded("api/log");
  return (
    <View title="Log" lead="Every command that ran, as the command line wrote it down.">
      <Panel testid="panel-log" title="Commands" loaded={log}>
        {(events) => <Events events={events} />}
      </Panel>
    </View>
  );
}

const COLUMNS: Column<Event>[] = [
  { key: "ts", label: "Time (UTC)", cell: ({ ts }) => moment(ts), value: ({ ts }) => ts },
  { key: "status", label: "Status", cell: ({ status }) => <Status text={status} />, value: ({ status }) => status },
  { key: "cmd", label: "Command", cell: ({ cmd }) => cmd, value: ({ cmd }) => cmd },
  { key: "args", label: "As typed", cell: ({ args }) => <code className="block max-w-[28rem] truncate" title={args}>{args}</code>, value: ({ args }) => args },
  { key: "duration", label: "Took", numeric: true, cell: ({ duration_ms: ms }) => duration(ms == null ? null : ms / 1000), value: ({ duration_ms: ms }) => ms },
  { key: "run", label: "Run", cell: ({ run_id: run }) => run ?? "–", value: ({ run_id: run }) => run },
  { key: "hash", label: "Configuration", cell: ({ cfg_hash: hash }) => <code>{hash ?? "–"}</code>, value: ({ cfg_hash: hash }) => hash },
  { key: "git", label: "Git", cell: ({ git_sha: sha }) => <code>{sha?.slice(0, 8) ?? "–"}</code>, value: ({ git_sha: sha }) => sha },
  { key: "seed", label: "Seed", numeric: true, cell: ({ seed }) => seed ?? "–", value: ({ seed }) => seed },
];

function Events({ events }: { events: Event[] }) {
  const [wanted, setWanted] = useState("");
  const field = useId();
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = events.filter((event) => {
    const text = Object.values(event).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  return (
    <>
      <div className="mb-3 flex flex-wrap items-center gap-2">
        <label htmlFor={field} className="text-xs text-muted">Filter</label>
        <input id={field} type="search" className="form-input field w-64 max-w-full" placeholder="command, status, hash" value={wanted} onChange={(event) => setWanted(event.target.value)} />
        <span role="status" className="text-xs text-muted">{matching.length} of {events.length}</span>
      </div>
      <DataTable label="Commands" columns={COLUMNS} rows={matching} rowKey={({ ts, cmd, args, run_id: run }) => `${ts} ${cmd} ${run ?? ""} ${args}`} sortedBy={{ key: "ts", falling: true }} />
    </>
  );
}
