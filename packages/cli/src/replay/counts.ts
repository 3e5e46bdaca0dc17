/** What a replay counts. Exact: from the drivers' calls, the chip's queue, and its trace while an access pattern runs. */

export interface Counts {
  maps: number;
  unmaps: number;
  /** Unmap events that were not replayed: their mapping is from before the trace. */
  skipped: number;
  /** Map events that the driver refused: an address too wide for it, a page that is mapped already. */
  refused: number;
  /** Bytes. */
  mapped: number;
  /** Commands or descriptors that the chip consumed, by name. */
  commands: Record<string, number>;
  /** Translations that the access pattern asked for, and those that faulted. */
  accesses: number;
  faults: number;
  /** Lookups in caches, by the cache's name. */
  hits: Record<string, number>;
  misses: Record<string, number>;
  /** Table entries that the chip read from memory, by table and level. */
  reads: Record<string, number>;
}

export function newCounts(): Counts {
  return {
    maps: 0,
    unmaps: 0,
    skipped: 0,
    refused: 0,
    mapped: 0,
    commands: {},
    accesses: 0,
    faults: 0,
    hits: {},
    misses: {},
    reads: {},
  };
}

export function addCounts(into: Counts, from: Counts): void {
  for (const key of ["maps", "unmaps", "skipped", "refused", "mapped", "accesses", "faults"] as const)
    into[key] += from[key];
  for (const key of ["commands", "hits", "misses", "reads"] as const) addNamed(into[key], from[key]);
}

export function addNamed(into: Record<string, number>, from: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(from)) into[name] = (into[name] ?? 0) + count;
}

export function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

/** Commands that only wait for those before them. */
const WAITS: ReadonlySet<string> = new Set(["CMD_SYNC", "inv_wait_dsc"]);

export function waits({ commands }: Counts): number {
  return Object.entries(commands).reduce((total, [name, count]) => total + (WAITS.has(name) ? count : 0), 0);
}

export function invalidations(counts: Counts): number {
  return sum(counts.commands) - waits(counts);
}

/** The IOTLB's name in each chip's trace. */
const IOTLB: readonly string[] = ["TLB", "iotlb"];

/** Share of IOTLB lookups that hit; undefined without lookups. */
export function iotlbHitRate({ hits, misses }: Counts): number | undefined {
  const hit = IOTLB.reduce((total, name) => total + (hits[name] ?? 0), 0);
  const missed = IOTLB.reduce((total, name) => total + (misses[name] ?? 0), 0);
  return hit + missed === 0 ? undefined : hit / (hit + missed);
}
