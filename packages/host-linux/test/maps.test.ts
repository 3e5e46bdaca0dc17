import { describe, expect, it } from "vitest";
import { findEntry, parseMaps } from "../src/index.js";

const TEXT = `5627a6b97000-5627a6b99000 r--p 00000000 fe:00 260386                     /usr/bin/head
5627a6b99000-5627a6b9f000 r-xp 00002000 fe:00 260386                     /usr/bin/head
7f0000000000-7f0000002000 rw-s 00000000 00:01 12                         /dev/shm/a b (deleted)
7ffd1000000-7ffd1021000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`;

describe("/proc/PID/maps", () => {
  it("gives range, permissions, offset and name of each mapping", () => {
    const entries = parseMaps(TEXT);
    expect(entries.map(({ name }) => name)).toEqual([
      "/usr/bin/head",
      "/usr/bin/head",
      "/dev/shm/a b (deleted)",
      "[stack]",
      "[vsyscall]",
    ]);
    expect(entries[1]).toEqual({
      start: 0x5627a6b99000n,
      end: 0x5627a6b9f000n,
      read: true,
      write: false,
      exec: true,
      shared: false,
      offset: 0x2000,
      inode: 260386,
      name: "/usr/bin/head",
    });
    expect([entries[2].shared, entries[2].write]).toEqual([true, true]);
    expect(entries[4].start).toBe(0xffff_ffff_ff60_0000n);
  });

  it("finds the mapping of an address and none in a hole", () => {
    const entries = parseMaps(TEXT);
    expect(findEntry(entries, 0x5627a6b98fffn)?.offset).toBe(0);
    expect(findEntry(entries, 0x5627a6b99000n)?.offset).toBe(0x2000);
    expect(findEntry(entries, 0x5627a6b9f000n)).toBeUndefined();
    expect(findEntry(entries, 0n)).toBeUndefined();
  });
});
