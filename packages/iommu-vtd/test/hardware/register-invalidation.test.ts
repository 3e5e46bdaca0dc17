import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { everything, qemu11Q35, type VtdPreset } from "../../src/presets.js";
import { IOTLB_INVALIDATE } from "../../src/spec/invalidation.js";
import { CCMD, iotlbRegisters } from "../../src/spec/registers.js";
import { Bench, RAM, RID, withCap } from "./bench.js";

const { IVA, IOTLB } = iotlbRegisters(0xf);
const PAGE = BigInt(RAM + 0x80_0000);

/** Two pages are mapped and cached, then unmapped. */
function stale(preset: VtdPreset = qemu11Q35): Bench {
  const bench = new Bench(preset);
  const root = bench.table();
  bench.legacy({ SSPTPTR: root, DID: 7 });
  for (const iova of [0x1000n, 0x3000n]) {
    bench.map(root, 4, iova, PAGE | 3n, 3n);
    bench.translate(iova, Access.READ);
    bench.map(root, 4, iova, 0n, 3n);
  }
  return bench;
}

const cached = (bench: Bench) =>
  [0x1000n, 0x3000n].map((iova) => bench.translate(iova, Access.READ) === TranslationStatus.OK);

/** Values of IAIG. */
const GRANULARITIES: readonly unknown[] = [0, "global", "domain", "page"];

/** @returns IAIG */
function iotlb(bench: Bench, granularity: number, did: number, iva: Parameters<typeof IVA.encode>[0] = {}): number {
  bench.set(IVA, iva);
  bench.set(IOTLB, { IVT: true, IIRG: granularity, DID: did });
  const { IVT, IAIG } = bench.get(IOTLB);
  expect(IVT).toBe(false);
  return GRANULARITIES.indexOf(IAIG);
}

/** @returns CAIG */
function context(bench: Bench, granularity: number, did: number, sid: number, functionMask = 0): number {
  bench.set(CCMD, { ICC: true, CIRG: granularity, SID: sid, DID: did, FM: functionMask });
  const { ICC, CAIG } = bench.get(CCMD);
  expect(ICC).toBe(false);
  return [0, "global", "domain", "device"].indexOf(CAIG);
}

describe("IOTLB_REG and IVA_REG (6.5.1.2)", () => {
  it("invalidate globally, by domain, by page", () => {
    const all = stale();
    expect([cached(all), iotlb(all, 1, 0), cached(all)]).toEqual([[true, true], 1, [false, false]]);
    const domain = stale();
    expect([iotlb(domain, 2, 8), cached(domain), iotlb(domain, 2, 7), cached(domain)]).toEqual([
      2,
      [true, true],
      2,
      [false, false],
    ]);
    const page = stale();
    expect([iotlb(page, 3, 7, { ADDR: 0x1000n }), cached(page)]).toEqual([3, [false, true]]);
    expect([iotlb(page, 3, 7, { AM: 2 }), cached(page)]).toEqual([3, [false, false]]);
  });

  it("ignore bits of the address above MGAW (11.4.6.4, 6.5.2.3)", () => {
    const ADDR = 0x1000n | (0xffffn << 48n);
    const register = stale();
    expect([iotlb(register, 3, 7, { ADDR }), cached(register)]).toEqual([3, [false, true]]);
    const queued = stale();
    queued.enableQueue(false);
    queued.submit(IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 7, ADDR }));
    expect(cached(queued)).toEqual([false, true]);
  });

  it("spare the paging-structure caches with IH (6.5.1.2)", () => {
    for (const IH of [true, false]) {
      const bench = new Bench(qemu11Q35);
      const root = bench.table();
      bench.legacy({ SSPTPTR: root, DID: 7 });
      for (const iova of [0x1000n, 0x3000n]) bench.map(root, 4, iova, PAGE | 3n, 3n);
      bench.translate(0x1000n, Access.READ);
      bench.store(root, 0n);
      expect(iotlb(bench, 3, 7, { ADDR: 0x1000n, IH })).toBe(3);
      expect(bench.translate(0x3000n, Access.READ) === TranslationStatus.OK).toBe(IH);
    }
  });

  it("do a domain where pages cannot be selected, and refuse masks above MAMV", () => {
    const coarse = stale(withCap(qemu11Q35, { PSI: 0 }));
    expect([iotlb(coarse, 3, 7, { ADDR: 0x1000n }), cached(coarse)]).toEqual([2, [false, false]]);
    const refused = stale();
    expect([iotlb(refused, 3, 7, { AM: 19 }), cached(refused)]).toEqual([0, [true, true]]);
  });

  it("refuse while the queue is on, in scalable mode, and on units of version 6 (11.4.6)", () => {
    const queued = stale();
    queued.enableQueue(false);
    expect([iotlb(queued, 1, 0), cached(queued)]).toEqual([0, [true, true]]);
    const modern = stale({ ...qemu11Q35, version: [6, 0] });
    expect(iotlb(modern, 1, 0)).toBe(0);
    const scalable = new Bench(everything);
    scalable.setRoot(1);
    const registers = iotlbRegisters(scalable.chip.capabilities.ecap.IRO);
    scalable.set(registers.IOTLB, { IVT: true, IIRG: "global" });
    expect(scalable.get(registers.IOTLB)).toMatchObject({ IVT: false, IAIG: 0, IIRG: "global" });
  });

  it("start with the write of the upper half", () => {
    const bench = stale();
    bench.chip.write32(IOTLB.offset, 7);
    expect(cached(bench)).toEqual([true, true]);
    bench.chip.write32(IOTLB.offset + 4, 0xa000_0000);
    expect(cached(bench)).toEqual([true, true]);
    bench.chip.write32(IOTLB.offset + 4, 0x9000_0000);
    expect(cached(bench)).toEqual([false, false]);
  });
});

describe("CCMD_REG (6.5.1.1)", () => {
  it.each([
    [1, 0, 0, 0, true],
    [2, 7, 0, 0, true],
    [2, 8, 0, 0, false],
    [3, 7, RID, 0, true],
    [3, 7, RID ^ 8, 0, false],
    [3, 7, RID ^ 1, 3, true],
    [3, 7, RID ^ 1, 1, false],
    [3, 8, RID, 0, false],
  ])("granularity %i, domain %i, source %i, function mask %i", (granularity, did, sid, mask, dropped) => {
    const bench = stale();
    bench.store(bench.contextAddress(false), 0n);
    expect(context(bench, granularity, did, sid, mask)).toBe(granularity);
    iotlb(bench, 1, 0);
    bench.translate(0x1000n, Access.READ);
    // FR 2: context entry read again; 6: still the old one.
    expect(bench.fault().FR).toBe(dropped ? 2 : 6);
  });
});
