/** The named workloads behind both backends, sweeps over them, and the reports. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { parseBackend } from "../../src/backends.js";
import { type Comparison, compareWorkload } from "../../src/compare/compare.js";
import { parseSweep } from "../../src/compare/parameters.js";
import { pointsOf } from "../../src/compare/points.js";
import type { NamedWorkload } from "../../src/compare/workloads/named-workload.js";
import { WORKLOADS } from "../../src/compare/workloads/workloads.js";
import { main } from "../../src/program.js";

// Real work, on a machine that others may use as well.
vi.setConfig({ testTimeout: 60_000 });

let out = "";

beforeEach(() => {
  out = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

function workload(name: string): NamedWorkload {
  const found = WORKLOADS.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no workload ${name}`);
  return found;
}

function compared(
  work: NamedWorkload,
  { backends = ["smmuv3", "vtd"], sweeps = [] as string[], mib = 1, seed = 1 } = {},
) {
  const points = pointsOf(backends.map(parseBackend), sweeps.map(parseSweep), work);
  return compareWorkload(work, { points, bytes: mib * 2 ** 20, seed });
}

const sum = (tally: Readonly<Record<string, number>>) => Object.values(tally).reduce((a, b) => a + b, 0);

describe("a named workload", () => {
  it.each(WORKLOADS)(
    "$name: every byte is right behind both, nothing is recorded, nothing is left",
    async (work) => {
      const { backends } = await compared(work);
      for (const { verified, checks, leaks, faultsRecorded, bytes } of backends) {
        expect({ verified, leaks, faultsRecorded }).toEqual({ verified: true, leaks: [], faultsRecorded: 0 });
        expect(checks.length).toBeGreaterThan(0);
        expect(bytes).toBeGreaterThan(0);
      }
      const [arm, intel] = backends;
      expect(arm.bytes).toBe(intel.bytes);
      expect(arm.pagesFaultedIn).toBe(intel.pagesFaultedIn);
    },
    60_000,
  );

  it("fails when the bytes are not those that must be there", async () => {
    const wrong: NamedWorkload = {
      ...workload("copy"),
      async run(bench) {
        const [{ memory, pasid }] = await bench.shared(1);
        const target = await memory.mmap({ length: 4096 });
        await bench.execute({ PASID: pasid, Opcode: "MEMFILL", Source: 1n, Destination: target, TransferSize: 4088 });
        const ones = new BigUint64Array(512).fill(1n);
        await bench.check("a page of ones", memory, target, new Uint8Array(ones.buffer));
      },
    };
    const { backends } = await compared(wrong, { backends: ["vtd"] });
    expect(backends[0]).toMatchObject({
      verified: false,
      checks: [{ what: "a page of ones", ok: false, detail: "first difference at byte 4088 of 4096" }],
    });
  });

  it("fails when a descriptor does", async () => {
    const wrong: NamedWorkload = {
      ...workload("copy"),
      async run(bench) {
        const [{ pasid }] = await bench.shared(1);
        await bench.execute({ PASID: pasid, Opcode: "MEMFILL", Destination: 0x1000n, TransferSize: 8 });
      },
    };
    const { backends } = await compared(wrong, { backends: ["smmuv3"] });
    expect(backends[0].checks).toEqual([
      { what: "a descriptor", ok: false, detail: "PAGE_FAULT_INVALID_RESPONSE at 0x1000" },
    ]);
  });

  it("gives processes their own PASIDs", async () => {
    const { backends } = await compared(workload("many-pasids"), { backends: ["smmuv3"] });
    expect(new Set(backends[0].pasids).size).toBe(64);
  });

  it("needs no PASID, ATS or page requests for a ring", async () => {
    const { backends } = await compared(workload("ring"), { backends: ["smmuv3:qemu-11-virt", "vtd:qemu-11-q35"] });
    for (const { verified, translationRequests, pasids } of backends)
      expect({ verified, translationRequests, pasids }).toEqual({ verified: true, translationRequests: 0, pasids: [] });
  });
});

describe("a sweep", () => {
  it("of the TLB reads fewer tables the larger it is, and changes nothing else that the device sees", async () => {
    const { backends } = await compared(workload("random"), { sweeps: ["tlb=16,256,1024"], mib: 2 });
    expect(backends.map(({ name }) => name)).toEqual(
      ["smmuv3", "vtd"].flatMap((name) => [16, 256, 1024].map((entries) => `${name} tlb=${entries}`)),
    );
    for (const three of [backends.slice(0, 3), backends.slice(3)]) {
      const [small, middle, large] = three.map(({ tableReads }) => sum(tableReads));
      expect(small).toBeGreaterThan(middle);
      expect(middle).toBeGreaterThan(large);
      expect(new Set(three.map(({ translationRequests }) => translationRequests)).size).toBe(1);
    }
  });

  it("of the ATC asks the IOMMU less the larger it is", async () => {
    const { backends } = await compared(workload("random"), { backends: ["vtd"], sweeps: ["atc=16,1024"] });
    expect(backends[0].translationRequests).toBeGreaterThan(backends[1].translationRequests);
  });

  it("of the page size faults in 512 times fewer pages", async () => {
    const { backends } = await compared(workload("copy"), { mib: 4, backends: ["vtd"], sweeps: ["page=4k,2m"] });
    expect(backends.map(({ pagesFaultedIn }) => pagesFaultedIn)).toEqual([1024, 2]);
  });

  it("of the granule uses tables of that granule", async () => {
    const { backends } = await compared(workload("ring"), { backends: ["smmuv3"], sweeps: ["granule=4k,16k,64k"] });
    expect(backends.every(({ verified }) => verified)).toBe(true);
    const bytes = backends.map(({ tableBytes }) => sum(tableBytes));
    expect(bytes[0]).toBeLessThan(bytes[1]);
    expect(bytes[1]).toBeLessThan(bytes[2]);
  });

  it("of page requests and engines: a queue that grows makes the slowest fault slower", async () => {
    const { backends } = await compared(workload("fault-storm"), { backends: ["vtd"], sweeps: ["engines=1,16"] });
    const [one, many] = backends.map(({ faultLatency }) => faultLatency?.max ?? 0);
    expect(many).toBeGreaterThan(one);
  });

  it("of two parameters takes every combination", async () => {
    const { backends } = await compared(workload("ring"), { backends: ["vtd"], sweeps: ["tlb=16,64", "walk=4,8"] });
    expect(backends.map(({ settings }) => settings)).toEqual([
      { tlb: "16", walk: "4" },
      { tlb: "16", walk: "8" },
      { tlb: "64", walk: "4" },
      { tlb: "64", walk: "8" },
    ]);
  });
});

describe("the reports", () => {
  const words = ["compare", "--workload", "fault-storm", "--mib", "1"];

  it("JSON: every figure says where it comes from, and the same words give the same numbers", async () => {
    const run = async () => {
      out = "";
      expect(await main([...words, "--json"])).toBe(0);
      const parsed = JSON.parse(out) as Comparison & { costs: Record<string, { origin: string; source: string }[]> };
      return { ...parsed, backends: parsed.backends.map((backend) => ({ ...backend, hostMilliseconds: 0 })) };
    };
    const first = await run();
    expect(await run()).toEqual(first);
    for (const { origin, source } of Object.values(first.costs).flat()) {
      expect(["measured", "paper", "assumed"]).toContain(origin);
      expect(source).not.toBe("");
    }
  });

  it("NDJSON: one backend a line", async () => {
    expect(await main([...words, "--ndjson"])).toBe(0);
    const lines = out.trim().split("\n");
    expect(lines.map((line) => (JSON.parse(line) as { name: string }).name)).toEqual(["smmuv3", "vtd"]);
  });

  it("text and Markdown: percentiles and the figures behind them", async () => {
    expect(await main(words)).toBe(0);
    expect(out).toMatch(/^fault latency, modelled +1,024 faults +1,024 faults$/m);
    expect(out).toMatch(/^ {2}99 % +[\d.]+ µs +[\d.]+ µs$/m);
    expect(out).toMatch(/^vtd: table read: 50 ns \(paper: HyperSIO/m);
    out = "";
    expect(await main([...words, "--format", "md"])).toBe(0);
    expect(out).toContain("- smmuv3: interrupt, handler and page fault");
  });

  it("SVG: a drawing without a DOM, with every point and quantity, the same each time", async () => {
    const draw = async () => {
      out = "";
      expect(await main([...words, "--sweep", "tlb=16,64", "--format", "svg"])).toBe(0);
      return out;
    };
    const svg = await draw();
    expect(svg).toMatch(/^<svg xmlns/);
    for (const text of ["table reads", "page requests", "modelled", "smmuv3", "vtd", ">16<", ">64<"])
      expect(svg).toContain(text);
    expect(await draw()).toBe(svg);
  });
});
