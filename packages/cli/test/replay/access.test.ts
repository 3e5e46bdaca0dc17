/** What devices are assumed to read, and what the chips' caches make of it. */
import { describe, expect, it } from "vitest";
import { accesses } from "../../src/replay/access-pattern.js";
import { map, replay, unmap } from "./lines.js";

function recorder(pattern: Parameters<typeof accesses>[0], random: (below: number) => number = () => 0) {
  const read: number[] = [];
  return { read, ...wrap(accesses(pattern, random, (page) => read.push(page))) };
}

function wrap(pattern: ReturnType<typeof accesses>) {
  return {
    mapped: (page: number, pages: number) => pattern.mapped(page, pages),
    unmapping: (page: number, pages: number) => pattern.unmapping(page, pages),
  };
}

describe("an access pattern", () => {
  it("in-order reads each page of a mapping once, upwards; reversed downwards", () => {
    const up = recorder("in-order");
    up.mapped(10, 3);
    expect(up.read).toEqual([10, 11, 12]);
    const down = recorder("reversed");
    down.mapped(10, 3);
    expect(down.read).toEqual([12, 11, 10]);
  });

  it("random reads as many pages as are mapped, of mappings that are live", () => {
    const { read, mapped, unmapping } = recorder("random", (below) => below - 1);
    mapped(10, 2);
    mapped(20, 2);
    expect(read).toEqual([11, 11, 21, 21]);
    unmapping(20, 1);
    mapped(30, 1);
    unmapping(30, 1);
    unmapping(10, 2);
    read.length = 0;
    mapped(40, 1);
    unmapping(40, 1);
    mapped(21 + 100, 1);
    expect(read).toEqual([40, 121]);
  });

  it("ring reads the oldest mapping when 256 wait, and all up to a mapping before it goes", () => {
    const { read, mapped, unmapping } = recorder("ring");
    for (let n = 0; n < 256; n++) mapped(n, 1);
    expect(read).toEqual([]);
    mapped(256, 2);
    expect(read).toEqual([0]);
    unmapping(2, 1);
    expect(read).toEqual([0, 1, 2]);
    unmapping(257, 1);
    expect(read).toHaveLength(258);
    unmapping(256, 1);
    expect(read).toHaveLength(258);
  });
});

describe("a replay with accesses", () => {
  it("reads every table once when nothing is cached, and only the last level then", async () => {
    const lines = Array.from({ length: 8 }, (_, n) => map(0x20_0000 + n * 0x1000));
    const { configurations } = await replay(lines, { access: { pattern: "in-order", seed: 0 } });
    const [smmu, vtd] = configurations.map(({ total }) => total.access);
    expect(smmu).toMatchObject({
      accesses: 8,
      faults: 0,
      iotlbHitRate: 0,
      misses: { STE: 1, CD: 1, TLB: 8 },
      tableReads: { STE: 1, CD: 1, "S1 L0": 1, "S1 L1": 1, "S1 L2": 1, "S1 L3": 8 },
    });
    expect(vtd).toMatchObject({ accesses: 8, faults: 0, misses: { iotlb: 8 }, tableReads: { "SS L2": 1, "SS L1": 8 } });
  });

  it("hits a huge page in the IOTLB after its first access, and not without huge pages", async () => {
    const { configurations } = await replay([map(0x20_0000, 0x20_0000)], {
      pages: ["huge", "4k"],
      access: { pattern: "in-order", seed: 0 },
    });
    const hits = configurations.map(({ total }) => Math.round((total.access?.iotlbHitRate ?? 0) * 512));
    expect(hits).toEqual([511, 0, 511, 0]);
  });

  it("misses after a strict unmap; a lazy one leaves the entry until the flush", async () => {
    const lines = [map(0x20_0000), unmap(0x20_0000), map(0x20_0000)];
    const { configurations } = await replay(lines, {
      modes: ["strict", "lazy"],
      access: { pattern: "in-order", seed: 0 },
    });
    expect(configurations.map(({ total }) => total.access?.iotlbHitRate)).toEqual([0, 0.5, 0, 0.5]);
  });

  it("is the same for the same seed, and another for another", async () => {
    const lines = Array.from({ length: 64 }, (_, n) => map(0x20_0000 + n * 0x1000));
    const run = async (seed: number) => (await replay(lines, { access: { pattern: "random", seed } })).configurations;
    expect(await run(1)).toEqual(await run(1));
    expect(await run(2)).not.toEqual(await run(1));
  });
});
