/** /proc/PID/maps: the mappings of a running process, with the kernel's own permissions (proc_pid_maps(5)). */
import type { VmaInfo } from "@iommukit/core";

/** One line of the file. */
export interface MapsEntry extends VmaInfo {
  /** Byte offset of `start` in the mapped file. */
  readonly offset: number;
  readonly inode: number;
}

/** "start-end perms offset dev inode path". The address part has 8 to 16 hex digits; paths may hold spaces. */
const LINE = /^([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])([ps]) ([0-9a-f]+) \S+ (\d+)\s*(.*)$/;

/** @param text the whole file */
export function parseMaps(text: string): MapsEntry[] {
  const entries: MapsEntry[] = [];
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const [, start, end, read, write, exec, share, offset, inode, name] = match;
    entries.push({
      start: BigInt(`0x${start}`),
      end: BigInt(`0x${end}`),
      read: read === "r",
      write: write === "w",
      exec: exec === "x",
      shared: share === "s",
      offset: Number.parseInt(offset, 16),
      inode: Number(inode),
      name,
    });
  }
  return entries;
}

/** The entry that holds `address`; entries are sorted and do not overlap. */
export function findEntry<T extends VmaInfo>(entries: readonly T[], address: bigint): T | undefined {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries[middle].end <= address) low = middle + 1;
    else high = middle;
  }
  const entry = entries[low];
  return entry && entry.start <= address ? entry : undefined;
}
