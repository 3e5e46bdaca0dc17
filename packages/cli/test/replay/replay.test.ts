/** Replays of small traces. */
import { describe, expect, it } from "vitest";
import { replayJson, replayMarkdown, replayText } from "../../src/replay/render.js";
import { map, phase, probe, replay, unmap } from "./lines.js";

describe("trace-cmd report", () => {
  it("is read as well", async () => {
    const line =
      "          insmod-172   [001]     6.562649: map:                  IOMMU: iova=0x0000000000010000 - 0x0000000000011000 paddr=0x0000000040000000 size=4096";
    expect(await replay([line])).toMatchObject({ events: 1, spaces: 1 });
  });

  it("may name a task with brackets, and addresses of 64 bits, which a driver of 48 refuses", async () => {
    const line = map(0x1_0000).replace("init-1", "[odd]-1").replaceAll("0x0000", "0xfffe");
    const { configurations, events } = await replay([line]);
    expect(events).toBe(1);
    for (const { total } of configurations)
      expect([total.maps, total.refusedMaps, total.mappedBytes]).toEqual([1, 1, 0]);
  });
});

describe("events of other kernels and tools", () => {
  const at = (cpu: number) => `     kworker/0:1-12    [00${cpu}] ....   100.00000${cpu}:`;
  const perf = "kworker/u8:3  1234/1235 [002]   100.000005:              ";
  const pages = { iova: "iova=0x00000000ffff0000", end: " - 0x00000000ffff2000", paddr: "paddr=0x0000000012340000" };

  it.each([
    ["without the end of the range", `${at(1)} map: IOMMU: ${pages.iova} ${pages.paddr} size=8192`],
    ["with sizes in hexadecimal", `${at(1)} map: IOMMU: ${pages.iova} ${pages.paddr} size=0x2000`],
    ["of perf script", `${perf}iommu:map: IOMMU: ${pages.iova}${pages.end} ${pages.paddr} size=8192`],
  ])("%s", async (_what, line) => {
    const gone = `${at(3)} unmap: IOMMU: ${pages.iova} size=0x2000 unmapped_size=0x2000`;
    const { configurations, events, malformedLines } = await replay([line, gone]);
    expect([events, malformedLines]).toEqual([2, 0]);
    for (const { total } of configurations) expect([total.maps, total.unmaps, total.mappedBytes]).toEqual([1, 1, 8192]);
  });
});

describe("lines of maps and unmaps that are no such lines", () => {
  it.each([
    ["cut", map(0x10000).slice(0, -8)],
    ["without a time", map(0x10000).replace("1.000001", "later")],
    ["without a CPU", unmap(0x10000).replace("[000]", "")],
    ["whose end is not where the size says", map(0x10000).replace("size=4096", "size=8192")],
    ["longer than any mapping", map(0, 2 ** 41)],
  ])("%s: are counted and left out", async (_what, line) => {
    const result = await replay([line, map(0x20000)]);
    expect(result).toMatchObject({ events: 1, malformedLines: 1 });
    expect(replayText(result)).toContain(
      "1 lines of maps or unmaps are cut, garbled or contradict themselves: left out",
    );
  });

  it("of other kinds are passed over", async () => {
    const lines = [probe("map", 1, 0x20000), "  a-1 [000] ..... 1.0: sched_switch: prev_comm=map: x", map(0x20000)];
    expect(await replay(lines)).toMatchObject({ events: 1, malformedLines: 0 });
  });
});

describe("a strict replay", () => {
  it("invalidates and waits once for each unmap, behind both drivers", async () => {
    const { configurations, events } = await replay([map(0x10000), map(0x20000), unmap(0x10000)]);
    expect(events).toBe(3);
    for (const { total } of configurations)
      expect([total.maps, total.unmaps, total.invalidations, total.waits]).toEqual([2, 1, 1, 1]);
  });

  it("splits counts at PHASE marks and keeps their sum", async () => {
    const { configurations } = await replay([
      map(0x10000),
      phase("second map: and unmap"),
      map(0x20000),
      unmap(0x10000),
    ]);
    for (const { phases, total } of configurations) {
      expect(phases.map(({ name, maps, unmaps }) => [name, maps, unmaps])).toEqual([
        ["before the first phase", 1, 0],
        ["second map: and unmap", 1, 1],
      ]);
      expect(phases.reduce((sum, { invalidations }) => sum + invalidations, 0)).toBe(total.invalidations);
    }
  });

  it("counts the tables: 2 MiB take one entry, 512 scattered pages a table", async () => {
    const peaks = async (lines: string[]) =>
      (await replay(lines)).configurations.map(({ total }) => total.peakTableBytes);
    const [smmu, intel] = await peaks([map(0x20_0000, 0x20_0000)]);
    expect(await peaks([map(0x20_0000), map(0x20_1000)])).toEqual([smmu + 4096, intel + 4096]);
  });

  it("tells the most tables from those that are left", async () => {
    const { configurations } = await replay([map(0x20_0000, 0x20_0000 - 0x1000), unmap(0x20_0000, 0x20_0000 - 0x1000)]);
    for (const { total } of configurations) expect(total.peakTableBytes).toBeGreaterThanOrEqual(total.tableBytes);
  });
});

describe("a trace", () => {
  it("gives the same report however it is cut into pieces", async () => {
    const lines = [
      phase("one"),
      probe("map", 1, 0x10000),
      map(0x10000),
      phase("two"),
      probe("map", 2, 0x10000),
      map(0x10000),
      unmap(0x10000),
      phase("three"),
      map(0x4000_0000),
    ];
    const options = { modes: ["strict", "lazy"], access: { pattern: "ring", seed: 1 } } as const;
    const whole = await replay(lines, options);
    expect(await replay(lines, { ...options, piece: 1 })).toEqual(whole);
    for (const { phases } of whole.configurations) {
      // Each address space adds its own tables when its first page is mapped.
      const [one, two] = phases.map(({ peakTableBytes }) => peakTableBytes);
      expect(two).toBe(2 * one);
    }
  });
});

describe("configurations side by side", () => {
  it("lazy: one invalidation when 255 unmaps wait (the queue's size less one)", async () => {
    const pages = Array.from({ length: 600 }, (_, n) => 0x10_0000 + n * 0x1000);
    const lines = [...pages.map((iova) => map(iova)), ...pages.map((iova) => unmap(iova))];
    const { configurations } = await replay(lines, { modes: ["strict", "lazy"] });
    expect(configurations.map(({ label, total }) => [label, total.invalidations])).toEqual([
      ["smmuv3 strict", 600],
      ["smmuv3 lazy", 2],
      ["vtd strict", 600],
      ["vtd lazy", 2],
    ]);
  });

  it("4k: 2 MiB take 512 entries and a table more than one block", async () => {
    const { configurations } = await replay([map(0x20_0000, 0x20_0000)], { pages: ["huge", "4k"] });
    expect(configurations.map(({ label }) => label)).toEqual(["smmuv3 huge", "smmuv3 4k", "vtd huge", "vtd 4k"]);
    const peaks = configurations.map(({ total }) => total.peakTableBytes);
    expect([peaks[1] - peaks[0], peaks[3] - peaks[2]]).toEqual([4096, 4096]);
  });

  it("presets: a server of 2023 has a table level more than QEMU's q35", async () => {
    const { configurations } = await replay([map(0x10_0000)], { backends: ["vtd", "vtd:qemu-11-q35"] });
    expect(configurations.map(({ label }) => label)).toEqual(["vtd", "vtd:qemu-11-q35"]);
    const [server, qemu] = configurations.map(({ total }) => total.peakTableBytes);
    expect(server - qemu).toBe(4096);
  });
});

describe("address spaces", () => {
  it("are told apart by mappings that overlap when no event names a domain", async () => {
    const { spaces, ambiguousUnmaps, configurations } = await replay([
      map(0x10000),
      map(0x10000),
      unmap(0x10000),
      unmap(0x10000),
    ]);
    expect([spaces, ambiguousUnmaps]).toEqual([2, 1]);
    for (const { total } of configurations) expect([total.maps, total.unmaps, total.skippedUnmaps]).toEqual([2, 2, 0]);
  });

  it("are the domains where kprobes name them", async () => {
    const lines = [
      probe("map", 1, 0x10000),
      map(0x10000),
      probe("map", 2, 0x20000),
      map(0x20000),
      probe("unmap", 2, 0x20000),
      unmap(0x20000),
    ];
    expect(await replay(lines)).toMatchObject({ spaces: 2, ambiguousUnmaps: 0, unknownUnmaps: 0 });
  });

  it("do not hold what was mapped before the trace: such unmaps are counted and not replayed", async () => {
    const { unknownUnmaps, configurations } = await replay([map(0x10000), unmap(0x50000)]);
    expect(unknownUnmaps).toBe(1);
    for (const { total } of configurations) expect([total.unmaps, total.skippedUnmaps]).toEqual([1, 1]);
  });

  it("take the device's name from its attachment, or from the DMA API's event after a mapping", async () => {
    const lines = [
      "  kworker-1 [000] d.... 1.000000: iommu_attach: (__iommu_attach_device+0x0/0xd0) domain=0xffff1 dev=0xffff0000070fd0c8",
      "  kworker-1 [000] ..... 1.000001: attach_device_to_domain: IOMMU: device=0000:00:07.0",
      probe("map", 1, 0x10000),
      map(0x10000),
      probe("map", 2, 0x10000),
      map(0x10000),
      "  init-1 [000] ..... 1.000002: dma_map_page: 0000:00:08.0 dir=TO_DEVICE dma_addr=10e00 size=512 phys_addr=472f5e00 attrs=",
      probe("map", 3, 0x10000),
      map(0x10000),
      "  init-1 [001] ..... 1.000002: dma_map_page: 0000:00:09.0 dir=TO_DEVICE dma_addr=10e00 size=512 phys_addr=472f5e00 attrs=",
    ];
    const { namedSpaces, configurations } = await replay(lines);
    expect(namedSpaces).toBe(2);
    for (const { devices } of configurations)
      expect(devices.map(({ device, maps }) => [device, maps])).toEqual([
        ["0000:00:07.0", 1],
        ["0000:00:08.0", 1],
        ["address space 2", 1],
      ]);
  });
});

describe("fragmentation", () => {
  it("is that of the moment with the most mapped pages: extents and used entries of last-level tables", async () => {
    const { fragmentation } = await replay([
      map(0x20_0000),
      map(0x20_1000),
      map(0x40_0000),
      phase("after"),
      unmap(0x20_0000),
      map(0x20_8000, 0x2000),
    ]);
    const [before, after] = fragmentation.phases;
    expect(before).toMatchObject({ mappedBytes: 0x3000, extents: 2, leafFill: 3 / 1024 });
    expect(after).toMatchObject({ mappedBytes: 0x4000, extents: 3, leafFill: 4 / 1024 });
    expect(fragmentation.total).toMatchObject({ mappedBytes: 0x4000, extents: 3 });
  });
});

describe("a report", () => {
  it("says of every figure whether it was measured or assumed, and never prints one without", async () => {
    const result = await replay([map(0x10000), unmap(0x10000)]);
    for (const text of [replayText(result), replayMarkdown(result)])
      expect(text).toMatch(/vtd wait 6958 ns \(measured: qi_submit_sync/);
    expect(replayText(result)).toMatch(/smmuv3 wait \d+ ns \(assumed: /);
    expect(result.configurations[1].total.modelledNanoseconds).toBe(858 + 873 + 6958);
    for (const { figures } of result.configurations)
      for (const { origin, source } of figures) {
        expect(["measured", "paper", "assumed"]).toContain(origin);
        expect(source).not.toBe("");
      }
  });

  it("is JSON with stable keys", async () => {
    const parsed: unknown = JSON.parse(replayJson(await replay([map(0x10000), unmap(0x10000)])));
    expect(parsed).toMatchObject({
      events: 2,
      access: null,
      configurations: [
        { label: "smmuv3", mode: "strict", pages: "huge", total: { commands: { CMD_TLBI_NH_VA: 1, CMD_SYNC: 1 } } },
        { label: "vtd", total: { mappedBytes: 4096, access: null } },
      ],
    });
  });
});
