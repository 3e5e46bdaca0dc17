/** What a replay has to say, as plain data: the JSON output is this. */
import type { Access } from "./access-pattern.js";
import type { Configuration } from "./configuration.js";
import { cpuTime, type Figure, figures, walkTime } from "./cost-model.js";
import { addCounts, type Counts, invalidations, iotlbHitRate, newCounts, sum, waits } from "./counts.js";
import { type Fragmentation, fill } from "./fragmentation.js";
import type { ReplayMachine } from "./machine.js";
import type { Layout } from "./mapped-pages.js";
import type { Spaces } from "./spaces.js";

/** What the device's accesses took; only with an access pattern. */
export interface AccessSummary {
  readonly accesses: number;
  readonly faults: number;
  /** Share of IOTLB lookups that hit, 0 to 1. */
  readonly iotlbHitRate: number | null;
  readonly hits: Readonly<Record<string, number>>;
  readonly misses: Readonly<Record<string, number>>;
  /** Table entries read, by table and level. */
  readonly tableReads: Readonly<Record<string, number>>;
  readonly readsPerAccess: number;
  readonly modelledNanoseconds: number;
}

export interface Summary {
  readonly maps: number;
  readonly unmaps: number;
  readonly skippedUnmaps: number;
  readonly refusedMaps: number;
  readonly mappedBytes: number;
  readonly invalidations: number;
  readonly waits: number;
  readonly commands: Readonly<Record<string, number>>;
  /** Of the CPU that maps, unmaps and waits. */
  readonly modelledNanoseconds: number;
  readonly access: AccessSummary | null;
}

/** Translation tables of all address spaces together. */
export interface Tables {
  readonly peakTableBytes: number;
  readonly tableBytes: number;
}

/** How the addresses lie when the most pages are mapped. */
export interface Addresses {
  readonly mappedBytes: number;
  readonly extents: number;
  /** Share of the entries of last-level tables that hold a page, 0 to 1. */
  readonly leafFill: number | null;
}

export interface ConfigurationReport {
  readonly label: string;
  readonly backend: string;
  readonly mode: string;
  readonly pages: string;
  readonly total: Summary & Tables;
  readonly phases: readonly (Summary & Tables & { readonly name: string })[];
  /** By address space. */
  readonly devices: readonly (Summary & { readonly device: string })[];
  readonly figures: readonly Figure[];
}

export interface Replay {
  readonly events: number;
  readonly spaces: number;
  /** Address spaces whose device the trace names. */
  readonly namedSpaces: number;
  readonly ambiguousUnmaps: number;
  readonly unknownUnmaps: number;
  /** Lines of iommu:map or iommu:unmap that are cut, garbled or contradict themselves. */
  readonly malformedLines: number;
  readonly access: Access | null;
  readonly configurations: readonly ConfigurationReport[];
  readonly fragmentation: {
    readonly total: Addresses;
    readonly phases: readonly (Addresses & { readonly name: string })[];
    readonly devices: readonly (Addresses & { readonly device: string })[];
  };
}

export function report(
  events: number,
  malformedLines: number,
  machines: readonly ReplayMachine[],
  spaces: Spaces,
  fragmentation: Fragmentation,
): Replay {
  const devices = Array.from({ length: spaces.count }, (_, n) => spaces.device(n));
  const names = devices.map((device, n) => device ?? `address space ${n}`).map(numbered);
  const shown = machines[0].phases.flatMap(({ rest, spaces: cells }, n) =>
    [rest, ...Object.values(cells)].some(({ maps, unmaps }) => maps + unmaps > 0) ? [n] : [],
  );
  return {
    events,
    spaces: spaces.count,
    namedSpaces: devices.filter((device) => device !== undefined).length,
    ambiguousUnmaps: spaces.ambiguous,
    unknownUnmaps: spaces.unknown,
    malformedLines,
    access: machines[0].configuration.access ?? null,
    configurations: machines.map((machine) => configurationReport(machine, names, shown)),
    fragmentation: {
      total: addresses(fragmentation.worst),
      phases: shown.map((n) => ({ name: machines[0].phases[n].name, ...addresses(fragmentation.phases[n]) })),
      devices: names.map((device, n) => ({ device, ...addresses(fragmentation.spaces[n]) })),
    },
  };
}

/** A device that was attached again has another address space: "0000:01:00.0 (2)". */
function numbered(name: string, n: number, names: readonly string[]): string {
  const before = names.slice(0, n).filter((other) => other === name).length;
  return before === 0 ? name : `${name} (${before + 1})`;
}

function configurationReport(
  { configuration, phases }: ReplayMachine,
  names: readonly string[],
  shown: readonly number[],
): ConfigurationReport {
  const { label, backend, mode, pages, access } = configuration;
  const total = newCounts();
  const devices = names.map(() => newCounts());
  for (const { rest, spaces } of phases) {
    addCounts(total, rest);
    for (const [n, counts] of spaces.entries()) {
      if (counts === undefined) continue;
      addCounts(devices[n], counts);
      addCounts(total, counts);
    }
  }
  const summarize = (counts: Counts) => summary(configuration, counts);
  return {
    label,
    backend: backend.label,
    mode,
    pages,
    total: {
      ...summarize(total),
      peakTableBytes: 4096 * Math.max(...phases.map(({ peakTables }) => peakTables)),
      tableBytes: 4096 * phases[phases.length - 1].tables,
    },
    phases: shown.map((n) => {
      const { name, rest, spaces, peakTables, tables } = phases[n];
      const counts = newCounts();
      for (const cell of [rest, ...Object.values(spaces)]) addCounts(counts, cell);
      return { name, ...summarize(counts), peakTableBytes: 4096 * peakTables, tableBytes: 4096 * tables };
    }),
    devices: devices.map((counts, n) => ({ device: names[n], ...summarize(counts) })),
    figures: figures(backend.name, access !== undefined),
  };
}

function summary({ backend, access }: Configuration, counts: Counts): Summary {
  const { maps, unmaps, skipped, refused, mapped, commands } = counts;
  return {
    maps,
    unmaps,
    skippedUnmaps: skipped,
    refusedMaps: refused,
    mappedBytes: mapped,
    invalidations: invalidations(counts),
    waits: waits(counts),
    commands,
    modelledNanoseconds: cpuTime(backend.name, counts),
    access: access ? accessSummary(backend.name, counts) : null,
  };
}

function accessSummary(backend: Configuration["backend"]["name"], counts: Counts): AccessSummary {
  const { accesses, faults, hits, misses, reads } = counts;
  return {
    accesses,
    faults,
    iotlbHitRate: iotlbHitRate(counts) ?? null,
    hits,
    misses,
    tableReads: reads,
    readsPerAccess: accesses === 0 ? 0 : sum(reads) / accesses,
    modelledNanoseconds: walkTime(backend, counts),
  };
}

function addresses(layout: Layout | undefined): Addresses {
  const { pages, extents, blocks } = layout ?? { pages: 0, extents: 0, blocks: 0 };
  return { mappedBytes: 4096 * pages, extents, leafFill: fill({ pages, extents, blocks }) ?? null };
}
