/** A comparison as a chart: one small plot for each quantity that differs, the points side by side; a sweep of one parameter as lines. */
import type { TopLevelSpec } from "vega-lite";
import type { BackendResult, Comparison } from "./compare.js";
import { total } from "./counts.js";
import { costLines } from "./render.js";

interface Quantity {
  readonly name: string;
  readonly of: (result: BackendResult) => number | undefined;
}

const QUANTITIES: readonly Quantity[] = [
  { name: "table reads", of: ({ tableReads }) => total(tableReads) },
  { name: "cache misses", of: ({ cacheMisses }) => total(cacheMisses) },
  { name: "translation requests", of: ({ translationRequests }) => translationRequests },
  { name: "page requests", of: ({ pageRequests }) => pageRequests },
  { name: "commands", of: ({ commands }) => total(commands) },
  { name: "fault latency, 50 %, modelled µs", of: ({ faultLatency }) => faultLatency && faultLatency.p50 / 1000 },
  { name: "fault latency, 99 %, modelled µs", of: ({ faultLatency }) => faultLatency && faultLatency.p99 / 1000 },
  { name: "table KiB", of: ({ tableBytes }) => total(tableBytes) / 1024 },
];

const COLUMNS = 3;
const SIZE = { width: 180, height: 140 } as const;

/** The vega-lite specification, with its data. */
export function chartOf(comparison: Comparison): TopLevelSpec {
  const { workload, backends } = comparison;
  const names = [...new Set(backends.flatMap(({ settings }) => Object.keys(settings)))];
  const swept = names.length === 1 ? names[0] : undefined;
  const values = backends.flatMap((result) =>
    QUANTITIES.flatMap(({ name, of }) => {
      const value = of(result);
      return value === undefined || backends.every((each) => !of(each))
        ? []
        : [
            {
              quantity: name,
              value,
              point: result.name,
              backend: result.backendLabel,
              setting: swept && result.settings[swept],
            },
          ];
    }),
  );
  const order = QUANTITIES.map(({ name }) => name);
  const x =
    swept === undefined
      ? ({ field: "point", type: "nominal", title: null, sort: null } as const)
      : ({ field: "setting", type: "ordinal", title: swept, sort: null } as const);
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: `iommukit compare: ${workload.name}`, subtitle: costLines(comparison), anchor: "start" },
    data: { values },
    facet: { field: "quantity", type: "nominal", title: null, sort: order },
    columns: COLUMNS,
    spec: {
      ...SIZE,
      mark: swept === undefined ? "bar" : { type: "line", point: true },
      encoding: {
        x,
        y: { field: "value", type: "quantitative", title: null, scale: { zero: true } },
        color: { field: "backend", type: "nominal", title: null },
      },
    },
    resolve: { scale: { y: "independent" } },
  };
}
