/** Replays of small traces, and of a real one: Linux 6.12.117 on a VT-d machine, recorded with its own invalidation events. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { modelled } from "../../src/replay/cost-model.js";
import { invalidations, waits } from "../../src/replay/counts.js";
import { replayJson, replayMarkdown, replayText } from "../../src/replay/render.js";
import { type Replay, Replayer } from "../../src/replay/replay.js";

const map = (iova: number, size = 0x1000) =>
  `  init-1  [000] .....  1.000001: map: IOMMU: iova=0x${iova.toString(16).padStart(16, "0")} - 0x${(iova + size).toString(16).padStart(16, "0")} paddr=0x0000000040000000 size=${size}`;
const unmap = (iova: number, size = 0x1000) =>
  `  init-1  [000] .....  1.000002: unmap: IOMMU: iova=0x${iova.toString(16).padStart(16, "0")} - 0x${(iova + size).toString(16).padStart(16, "0")} size=${size} unmapped_size=${size}`;
const probe = (kind: "map" | "unmap", domain: number, iova: number) =>
  `  init-1  [000] d....  1.000000: iommu_${kind}: (__iommu_${kind}+0x0/0x290) domain=0xffff${domain} iova=0x${iova.toString(16)} size=0x1000`;

async function replay(lines: readonly string[], lazy = false, backends = ["smmuv3", "vtd"]): Promise<Replay> {
  const replayer = await Replayer.start(backends, lazy);
  for (const line of lines) replayer.line(line);
  return replayer.finish();
}

describe("trace-cmd report", () => {
  it("is read as well", async () => {
    const line =
      "          insmod-172   [001]     6.562649: map:                  IOMMU: iova=0x0000000000010000 - 0x0000000000011000 paddr=0x0000000040000000 size=4096";
    expect(await replay([line])).toMatchObject({ events: 1, spaces: 1 });
  });
});

describe("a strict replay", () => {
  it("invalidates and waits once for each unmap, behind both drivers", async () => {
    const { backends, events } = await replay([map(0x10000), map(0x20000), unmap(0x10000)]);
    expect(events).toBe(3);
    for (const { total } of backends)
      expect([total.maps, total.unmaps, invalidations(total), waits(total)]).toEqual([2, 1, 1, 1]);
  });

  it("splits counts at PHASE marks and keeps their sum", async () => {
    const mark = "  init-1  [000] .....  1.000001: tracing_mark_write: PHASE second";
    const { backends } = await replay([map(0x10000), mark, map(0x20000), unmap(0x10000)]);
    for (const { phases, total } of backends) {
      expect(phases.map(({ name, counts }) => [name, counts.maps, counts.unmaps])).toEqual([
        ["before the first phase", 1, 0],
        ["second", 1, 1],
      ]);
      expect(phases.reduce((sum, { counts }) => sum + invalidations(counts), 0)).toBe(invalidations(total));
    }
  });

  it("counts the tables: 2 MiB take one entry, 512 scattered pages a table", async () => {
    const tables = async (lines: string[]) => (await replay(lines)).backends.map(({ total }) => total.tableBytes);
    const [smmu, intel] = await tables([map(0x20_0000, 0x20_0000)]);
    expect(await tables([map(0x20_0000), map(0x20_1000)])).toEqual([smmu + 4096, intel + 4096]);
  });
});

describe("a lazy replay", () => {
  it("flushes when 255 unmaps wait (the queue's size less one)", async () => {
    const pages = Array.from({ length: 600 }, (_, n) => 0x10_0000 + n * 0x1000);
    const { backends } = await replay([...pages.map((iova) => map(iova)), ...pages.map((iova) => unmap(iova))], true);
    for (const { total } of backends) expect(invalidations(total)).toBe(2);
  });
});

describe("address spaces", () => {
  it("are told apart by mappings that overlap when no event names a domain", async () => {
    const { spaces, ambiguousUnmaps, backends } = await replay([
      map(0x10000),
      map(0x10000),
      unmap(0x10000),
      unmap(0x10000),
    ]);
    expect([spaces, ambiguousUnmaps]).toEqual([2, 1]);
    expect(backends.map(({ total }) => [total.maps, total.unmaps, total.skipped])).toEqual([
      [2, 2, 0],
      [2, 2, 0],
    ]);
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
    const { unknownUnmaps, backends } = await replay([map(0x10000), unmap(0x50000)]);
    expect(unknownUnmaps).toBe(1);
    expect(backends.map(({ total }) => [total.unmaps, total.skipped])).toEqual([
      [1, 1],
      [1, 1],
    ]);
  });
});

describe("a report", () => {
  it("says of every figure whether it was measured or assumed, and never prints one without", async () => {
    const result = await replay([map(0x10000), unmap(0x10000)]);
    for (const text of [replayText(result), replayMarkdown(result)])
      expect(text).toMatch(/vtd wait 6958 ns \(measured: qi_submit_sync/);
    expect(replayText(result)).toMatch(/smmuv3 wait \d+ ns \(assumed: /);
    const { total } = result.backends[1];
    expect(modelled("vtd", total)).toBe(858 + 873 + 6958);
    expect(JSON.parse(replayJson(result))).toMatchObject({
      mode: "strict",
      backends: [{ name: "smmuv3" }, { name: "vtd", total: { bytesMapped: "0x1000" } }],
    });
  });
});

describe("Linux 6.12.117 behind VT-d, strict", () => {
  const file = new URL(
    "../../../../conformance/vectors/qi-trace/linux-6.12.117-amd64-intel-strict.ftrace.gz",
    import.meta.url,
  );
  const lines = gunzipSync(readFileSync(file)).toString().split("\n");
  const counted = (pattern: RegExp) => lines.filter((line) => pattern.test(line)).length;

  it("has as many maps and unmaps as the text, and the kernel's own number of invalidations", {
    timeout: 120_000,
  }, async () => {
    const { backends } = await replay(lines);
    for (const { total } of backends) {
      expect(total.maps).toBe(counted(/: map: IOMMU:/));
      expect(total.unmaps).toBe(counted(/: unmap: IOMMU:/));
      expect(waits(total)).toBe(counted(/: cache_tag_flush_range: /));
    }
    expect(backends[1].total.commands).toEqual({ iotlb_inv_dsc: 25_145, inv_wait_dsc: 25_145 });
  });
});
