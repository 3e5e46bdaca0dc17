/** A replay as a picture: one row of bars for each figure, one bar for each configuration. */
import type { TopLevelSpec } from "vega-lite";
import { svgOf } from "../manners/svg.js";
import type { Replay, Summary, Tables } from "./report.js";

interface Measure {
  readonly title: string;
  readonly of: (total: Summary & Tables) => number;
}

const MEASURES: readonly Measure[] = [
  { title: "invalidations", of: ({ invalidations }) => invalidations },
  { title: "waits", of: ({ waits }) => waits },
  { title: "peak tables, KiB", of: ({ peakTableBytes }) => peakTableBytes / 1024 },
  { title: "modelled CPU time, ms", of: ({ modelledNanoseconds }) => modelledNanoseconds / 1e6 },
];

/** Only with an access pattern. */
const ACCESS_MEASURES: readonly Measure[] = [
  { title: "IOTLB hits, %", of: ({ access }) => 100 * (access?.iotlbHitRate ?? 0) },
  { title: "table reads per access", of: ({ access }) => access?.readsPerAccess ?? 0 },
];

export function replaySvg(replay: Replay): Promise<string> {
  return svgOf(chartOf(replay));
}

/** The vega-lite specification, with its data. */
function chartOf({ events, configurations, access }: Replay): TopLevelSpec {
  const measures = access ? [...MEASURES, ...ACCESS_MEASURES] : MEASURES;
  const assumed = access ? [`accesses assumed: ${access.pattern}`] : [];
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: `${events} events replayed`, subtitle: ["modelled time = counts x figures", ...assumed] },
    background: "white",
    vconcat: measures.map(({ title, of }) => ({
      width: 480,
      data: { values: configurations.map(({ label, total }) => ({ label, value: Number(of(total).toFixed(3)) })) },
      encoding: {
        y: { field: "label", type: "nominal", sort: null, title: null },
        x: { field: "value", type: "quantitative", title, axis: { tickMinStep: 0.001 } },
      },
      layer: [
        { mark: { type: "bar" }, encoding: { color: { field: "label", type: "nominal", sort: null, legend: null } } },
        {
          mark: { type: "text", align: "left", dx: 3 },
          encoding: { text: { field: "value", type: "quantitative" } },
        },
      ],
    })),
  };
}
