import { PeriodogramChart } from "../charts/PeriodogramChart";
import { Panel } from "../components/Panel";
import { View } from "../components/View";
import { channelColour } from "../lib/colours";
import { plural } from "../lib/format";
import { useLoaded } from "../lib/use-loaded";

export function ResidualsView() {
  const residuals = useLoaded("api/residuals");
  const planets = residuals.state === "ready" ? ` over ${plural(residuals.data.planets, "planet")}` : "";
  const lines = residuals.state === "ready" && !residuals.data.lines.length ? "No line of the pointing's jitter is known." : "Dashed verticals: known lines of the pointing's jitter.";
  return (
    <View title="Residuals" lead="What the fits leave over, by frequency. White noise lies at 1; a line or a rise to the left is what nothing models.">
      <Panel testid="panel-residuals" title="Periodograms of residuals" description={`Line: median${planets}; shade: from 5% to 95% of them. ${lines}`} loaded={residuals}>
        {({ channels, lines }) => (
          <div className="grid grid-cols-[minmax(0,1fr)] gap-6">
            {channels.map(({ channel, frequency_mhz: frequency, median, low, high }) => (
              <div key={channel} className="min-w-0">
                <h3 className="text-xs font-semibold text-ink">{channel}</h3>
                <PeriodogramChart label={`Median periodogram of ${channel} residuals with its 5% to 95% range, white noise at 1${lines.map(({ name }) => `; known line ${name}`).join("")}`} frequency={frequency} power={median} band={{ low, high }} lines={lines} colour={channelColour(channel)} height={300} />
              </div>
            ))}
          </div>
        )}
      </Panel>
    </View>
  );
}
