/** A comparison as rows of a table: what people read side by side. */
import type { BackendResult, Comparison } from "./compare.js";
import type { Percentiles } from "./cost-model.js";
import { type Tally, total } from "./counts.js";

export interface Row {
  readonly label: string;
  readonly cells: readonly string[];
}

type Pick = (result: BackendResult) => string;

const number = (value: number) => value.toLocaleString("en-US");
const mib = (bytes: number) => (bytes < 2 ** 20 ? kib(bytes) : `${(bytes / 2 ** 20).toFixed(1)} MiB`);
const kib = (bytes: number) => `${number(bytes / 1024)} KiB`;

/** One row for the total and one for each kind, most frequent first; kinds that only one backend has show "-" elsewhere. */
function tallyRows(label: string, results: readonly BackendResult[], tally: (result: BackendResult) => Tally): Row[] {
  const kinds = new Map<string, number>();
  for (const result of results) {
    for (const [kind, value] of Object.entries(tally(result))) kinds.set(kind, (kinds.get(kind) ?? 0) + value);
  }
  const sorted = [...kinds].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).map(([kind]) => kind);
  const cell = (kind: string) => (result: BackendResult) => {
    const value = tally(result)[kind];
    return value === undefined ? "-" : number(value);
  };
  return [
    row(label, results, (result) => number(total(tally(result)))),
    ...sorted.map((kind) => row(`  ${kind}`, results, cell(kind))),
  ];
}

function row(label: string, results: readonly BackendResult[], pick: Pick): Row {
  return { label, cells: results.map(pick) };
}

export function rowsOf({ backends }: Comparison): Row[] {
  const one = (label: string, pick: Pick) => row(label, backends, pick);
  return [
    one(
      "verified",
      ({ verified, checks }) =>
        `${verified ? "yes" : "NO"} (${checks.filter(({ ok }) => ok).length} of ${checks.length} checks)`,
    ),
    one("bytes moved", ({ bytes }) => mib(bytes)),
    one("PASID", ({ pasids }) => (pasids.length > 2 ? `${pasids.length} of them` : pasids.join(", ") || "none")),
    one("translation requests (ATS)", (r) => number(r.translationRequests)),
    one("page requests (PRI)", (r) => number(r.pageRequests)),
    one("  groups", (r) => number(r.pageRequestGroups)),
    one("pages faulted in", (r) => number(r.pagesFaultedIn)),
    ...(backends.some(({ faultLatency }) => faultLatency) ? latencyRows(backends) : []),
    ...tallyRows("table reads", backends, (r) => r.tableReads),
    ...tallyRows("cache hits", backends, (r) => r.cacheHits),
    ...tallyRows("cache misses", backends, (r) => r.cacheMisses),
    ...tallyRows("commands and descriptors", backends, (r) => r.commands),
    one("ATC invalidations", (r) => number(r.invalidations)),
    one("table bytes", ({ tableBytes }) => kib(Object.values(tableBytes).reduce((sum, bytes) => sum + bytes, 0))),
    ...tallyRows("faults recorded", backends, (r) => r.faults),
    ...(backends.some(({ exit }) => exit) ? exitRows(backends) : []),
    one("left behind", ({ leaks }) => (leaks.length === 0 ? "nothing" : leaks.join("; "))),
    one("host time", ({ hostMilliseconds }) => `${hostMilliseconds.toFixed(0)} ms`),
  ];
}

function latencyRows(backends: readonly BackendResult[]): Row[] {
  const microseconds =
    (pick: (latency: Percentiles) => number) =>
    ({ faultLatency }: BackendResult) =>
      faultLatency === undefined ? "-" : `${(pick(faultLatency) / 1000).toFixed(2)} µs`;
  return [
    row("fault latency, modelled", backends, ({ faultLatency }) => `${number(faultLatency?.faults ?? 0)} faults`),
    row(
      "  50 %",
      backends,
      microseconds(({ p50 }) => p50),
    ),
    row(
      "  90 %",
      backends,
      microseconds(({ p90 }) => p90),
    ),
    row(
      "  99 %",
      backends,
      microseconds(({ p99 }) => p99),
    ),
    row(
      "  slowest",
      backends,
      microseconds(({ max }) => max),
    ),
  ];
}

function exitRows(backends: readonly BackendResult[]): Row[] {
  return [
    row("process killed under DMA", backends, ({ exit }) => (exit ? "yes" : "no")),
    row("  faults recorded", backends, ({ exit }) => number(exit?.faultsRecorded ?? 0)),
    row("  descriptors", backends, ({ exit }) =>
      Object.entries(exit?.descriptors ?? {})
        .map(([status, count]) => `${count} ${status}`)
        .join(", "),
    ),
    row("  PASID taken back", backends, ({ exit }) => (exit?.pasidFreed ? "yes" : "no")),
  ];
}
