import { describe, expect, it } from "vitest";
import { FirstFitPages, SlabMemory, Tracer, WINDOW_MASK } from "../../src/index.js";

describe("SlabMemory", () => {
  it("keeps bytes across a slab border and refuses what is not RAM", () => {
    const memory = new SlabMemory([{ base: 0x4000_0000, size: 0x8000_0000 }]);
    const bytes = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
    expect(memory.writeBytes(0x7fff_fff8, bytes)).toBe(true);
    const back = new Uint8Array(16);
    expect(memory.readBytes(0x7fff_fff8, back)).toBe(true);
    expect(back).toEqual(bytes);
    expect(memory.writeBytes(0xbfff_fff8, bytes)).toBe(false);
    expect(memory.view(0, 0x1000, 2)).toBeNull();
    expect(memory.load32(0)).toBe(0xffff_ffff);
  });

  it("reads table words in place above 4 GiB", () => {
    const memory = new SlabMemory([{ base: 0x1_0000_0000, size: 0x10_0000 }]);
    memory.store64(0x1_0000_0ff8, 0x1234_5678, -2);
    const words = memory.view(1, 0xff8, 2);
    expect(words && [words[memory.viewAt], words[memory.viewAt + 1]]).toEqual([-2, 0x1234_5678]);
    expect(memory.view(1, 0x10_0000, 2)).toBeNull();
    expect(memory.compareExchange64(0x1_0000_0ff8, 0x1234_5678, 0, 0, 0)).toBe(false);
    expect(memory.compareExchange64(0x1_0000_0ff8, 0x1234_5678, -2, 1, 2)).toBe(true);
    expect(memory.load64(0x1_0000_0ff8)).toBe(0x1_0000_0002n);
  });

  it("has nothing above 52 bits, whatever the low bits of the address", () => {
    const base = 0x4000_0000;
    const slabs = [
      { base, size: 0x4000_0000 },
      { base: 0x1_0000_0000, size: 0x1000 },
    ];
    for (const regions of [slabs.slice(0, 1), slabs]) {
      const memory = new SlabMemory(regions);
      memory.store32(base, 7);
      for (const hi of [0x4000_0000, -0x4000_0000, 0x10_0000]) expect(memory.view(hi, base, 1)).toBeNull();
    }
  });

  it("goes on from one region to the next where there is none between them", () => {
    const memory = new SlabMemory([
      { base: 0x20_0000, size: 0x10_0000 },
      { base: 0x10_0000, size: 0x10_0000 },
    ]);
    expect(memory.writeBytes(0x1f_fffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    const back = new Uint8Array(4);
    expect([memory.readBytes(0x1f_fffe, back), ...back]).toEqual([true, 1, 2, 3, 4]);
    expect([memory.has(0x10_0000, 0x20_0000), memory.has(0x10_0000, 0x20_0001)]).toEqual([true, false]);
  });

  it("has nothing between two regions that share a slab", () => {
    const memory = new SlabMemory([
      { base: 0x10_0000, size: 0x10_0000 },
      { base: 0x30_0000, size: 0x10_0000 },
    ]);
    for (const hole of [0, 0xf_fffc, 0x20_0000, 0x2f_fffc, 0x40_0000]) {
      expect([memory.view(0, hole, 1), memory.window(0, hole)]).toEqual([null, null]);
      expect([memory.store32(hole, 1), memory.load32(hole)]).toEqual([false, 0xffff_ffff]);
    }
    expect(memory.view(0, 0x1f_fffc, 2)).toBeNull();
    for (const pa of [0x10_0000, 0x1f_fffc, 0x30_0000, 0x3f_fffc])
      expect([memory.store32(pa, 5), memory.load32(pa)]).toEqual([true, 5]);
  });

  it.each([
    ["one buffer", [{ base: 0xc000_0000, size: 0x8000_0000 }]],
    [
      "slabs",
      [
        { base: 0xc000_0000, size: 0x8000_0000 },
        { base: 0x2_0000_0000, size: 0x1000 },
      ],
    ],
  ])("gives windows that end with a high word, in %s", (_name, regions) => {
    const memory = new SlabMemory(regions);
    for (const pa of [0xc000_0000, 0xffff_fff8, 0x1_0000_0000, 0x1_3fff_fff8]) {
      memory.store64(pa, pa / 8, pa / 16);
      const window = memory.window(Math.floor(pa / 2 ** 32), pa | 0);
      const at = (((pa | 0) >>> 2) - (window?.first ?? 0)) & WINDOW_MASK;
      expect([window?.words[at], window?.words[at + 1]]).toEqual([(pa / 16) | 0, (pa / 8) | 0]);
      expect(memory.window(Math.floor(pa / 2 ** 32), pa | 0)).toBe(window);
    }
    const high = memory.window(1, 0);
    // 3 GiB would be at an index that no word has.
    expect((0xc000_0000 / 4 - (high?.first ?? 0)) & WINDOW_MASK).toBeGreaterThanOrEqual(high?.words.length ?? 0);
    expect(memory.window(0, 0)).toBeNull();
    expect(memory.window(1, 0x4000_0000)).toBeNull();
  });

  it("fills what has been written and what has not, to the byte", () => {
    const base = 0x1_0000_0000;
    const memory = new SlabMemory([{ base, size: 0x10_0000 }]);
    const bytes = (pa: number, count: number) => {
      const into = new Uint8Array(count);
      memory.readBytes(pa, into);
      return [...into];
    };
    expect(memory.fill(base + 0x2000, 0x1000, 0)).toBe(true);
    memory.store32(base + 0x1000, -1);
    memory.writeBytes(base + 0x1005, Uint8Array.of(1, 2, 3, 4));
    // Across the border of what has been written, and to the byte.
    expect(memory.fill(base + 0x1002, 0x5000, 0)).toBe(true);
    expect(bytes(base + 0x1000, 10)).toEqual([0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    memory.fill(base + 0x3001, 3, 0x5a);
    memory.fill(base + 0x4000, 8, 0xa5);
    expect([bytes(base + 0x3000, 5), bytes(base + 0x4004, 5)]).toEqual([
      [0, 0x5a, 0x5a, 0x5a, 0],
      [0xa5, 0xa5, 0xa5, 0xa5, 0],
    ]);
    expect(memory.compareExchange64(base + 0x8000, 0, 0, 1, 2)).toBe(true);
    expect(memory.fill(base, 0x10_0000, 0)).toBe(true);
    expect([memory.load64(base + 0x8000), memory.load64(base + 0x3000), memory.load64(base + 0x4000)]).toEqual([
      0n,
      0n,
      0n,
    ]);
    expect(memory.fill(base, 0x10_0001, 0)).toBe(false);
    expect(memory.fill(base + 0xf_f000, 0x2000, 0)).toBe(false);
  });

  it("takes nothing for what has not been touched", () => {
    const before = process.memoryUsage().rss;
    const memory = new SlabMemory([{ base: 0x1_0000_0000, size: 64 * 2 ** 30 }]);
    // Pages that are allocated have been touched when something is written to them.
    memory.fill(0x1_0000_0000, 64 * 2 ** 30, 0);
    for (let slab = 0; slab < 64; slab++) memory.store32(0x1_0000_0000 + slab * 2 ** 30, slab);
    expect(memory.load32(0x1_0000_0000 + 63 * 2 ** 30)).toBe(63);
    expect(process.memoryUsage().rss - before).toBeLessThan(15_000_000);
  });

  it("takes nothing for a write that leaves it: to a BAR, for instance", () => {
    const size = 2 ** 28;
    const memory = new SlabMemory([{ base: 0x1_0000_0000, size }]);
    const before = process.memoryUsage().rss;
    expect(memory.writeBytes(0x40_0000_0000, Uint8Array.of(1))).toBe(false);
    expect(memory.fill(0x40_0000_0000, 4096, 1)).toBe(false);
    memory.fill(0x1_0000_0000, size, 0);
    expect(process.memoryUsage().rss - before).toBeLessThan(15_000_000);
  });
});

describe("FirstFitPages", () => {
  it("gives aligned zeroed pages, reuses freed ones and names the owner of a leak", () => {
    const memory = new SlabMemory([{ base: 0x1000_0000, size: 0x10_0000 }]);
    const pages = new FirstFitPages(memory, memory.regions, { poison: 0x6b });
    const a = pages.alloc(1, "a");
    const b = pages.alloc(4, "b");
    expect(b % 0x4000).toBe(0);
    memory.fill(a, 4096, 0xff);
    pages.free(a);
    expect(memory.load32(a)).toBe(0x6b6b_6b6b);
    expect(pages.alloc(1, "c")).toBe(a);
    expect(memory.load32(a)).toBe(0);
    expect(Object.fromEntries(pages.usage())).toEqual({ b: 4, c: 1 });
    expect(() => pages.free(a + 4096)).toThrow("not allocated");
    expect(() => pages.alloc(1000, "d")).toThrow("ENOMEM");
  });

  it("keeps freed pages back for as long as the quarantine is, and tells of both", () => {
    const memory = new SlabMemory([{ base: 0x1000_0000, size: 0x10_0000 }]);
    const trace = new Tracer(() => 0);
    const told: string[] = [];
    trace.on("page:allocated", ({ address, pages, owner }) =>
      told.push(`${owner} +${pages} at ${address.toString(16)}`),
    );
    trace.on("page:freed", ({ address, pages, owner }) => told.push(`${owner} -${pages} at ${address.toString(16)}`));
    const pages = new FirstFitPages(memory, memory.regions, { quarantine: 1 }, trace);
    const a = pages.alloc(1, "a");
    pages.free(a);
    const b = pages.alloc(1, "b");
    pages.free(b);
    expect(pages.alloc(1, "c")).toBe(a);
    expect(told).toEqual([
      "a +1 at 10000000",
      "a -1 at 10000000",
      "b +1 at 10001000",
      "b -1 at 10001000",
      "c +1 at 10000000",
    ]);
  });

  it("comes to every region, whatever their order, but never to page 0", () => {
    const memory = new SlabMemory([
      { base: 0x20_0000, size: 0x2000 },
      { base: 0, size: 0x2000 },
    ]);
    const pages = new FirstFitPages(memory);
    expect([1, 2, 3].map(() => pages.alloc(1, "a"))).toEqual([0x20_0000, 0x20_1000, 0x1000]);
    expect(() => pages.alloc(1, "a")).toThrow("ENOMEM");
  });

  it("gives memory again in runs of another size, and what alignment had left over", () => {
    const pages = new FirstFitPages(new SlabMemory([{ base: 0x1000_0000, size: 0x10_0000 }]));
    const all = (size: number) => {
      const runs: number[] = [];
      for (let left = 256; left >= size; left -= size) runs.push(pages.alloc(size, "a"));
      expect(() => pages.alloc(1, "b")).toThrow("ENOMEM");
      for (const run of runs) pages.free(run);
      return new Set(runs).size;
    };
    expect([64, 1, 256, 2].map(all)).toEqual([4, 256, 1, 128]);
    const small = pages.alloc(1, "a");
    expect(pages.alloc(128, "b") % 0x8_0000).toBe(0);
    expect(() => pages.alloc(128, "c")).toThrow("ENOMEM");
    const rest = Array.from({ length: 127 }, () => pages.alloc(1, "d"));
    expect(new Set([small, ...rest]).size).toBe(128);
  });
});
