/** What a replay counts, for the whole trace and for each phase. Exact: from the drivers' calls and the chips' queues. */

export interface ReplayCounts {
  maps: number;
  unmaps: number;
  /** Unmap events that were not replayed: their mapping is from before the trace. */
  skipped: number;
  bytesMapped: bigint;
  /** Commands or descriptors that the chip consumed, by name. */
  commands: Record<string, number>;
  /** Peak bytes of translation tables, looked at every 256 events. */
  tableBytes: number;
}

export function newReplayCounts(): ReplayCounts {
  return { maps: 0, unmaps: 0, skipped: 0, bytesMapped: 0n, commands: {}, tableBytes: 0 };
}

/** Commands that only wait for those before them. */
const WAITS: ReadonlySet<string> = new Set(["CMD_SYNC", "inv_wait_dsc"]);

export function waits({ commands }: ReplayCounts): number {
  return sum(commands, (name) => WAITS.has(name));
}

export function invalidations({ commands }: ReplayCounts): number {
  return sum(commands, (name) => !WAITS.has(name));
}

function sum(commands: Readonly<Record<string, number>>, counted: (name: string) => boolean): number {
  return Object.entries(commands).reduce((total, [name, count]) => (counted(name) ? total + count : total), 0);
}
