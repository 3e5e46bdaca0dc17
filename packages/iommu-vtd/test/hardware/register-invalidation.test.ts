import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { everything, qemu11Q35, type VtdPreset } from "../../src/presets.js";
import { CCMD, iotlbRegisters } from "../../src/spec/registers.js";
import { Bench, RAM, RID } from "./bench.js";

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

/** @returns IAIG */
function iotlb(bench: Bench, granularity: number, did: number, iva = 0n): number {
  bench.chip.write64(IVA.offset, iva);
  bench.chip.write64(IOTLB.offset, (1n << 63n) | (BigInt(granularity) << 60n) | (BigInt(did) << 32n));
  const value = bench.chip.read64(IOTLB.offset);
  expect(value >> 63n).toBe(0n);
  return Number((value >> 57n) & 3n);
}

function context(bench: Bench, granularity: number, did: number, sid: number): number {
  bench.chip.write64(CCMD.offset, (1n << 63n) | (BigInt(granularity) << 61n) | (BigInt(sid) << 16n) | BigInt(did));
  return Number((bench.chip.read64(CCMD.offset) >> 59n) & 3n);
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
    expect([iotlb(page, 3, 7, 0x1000n), cached(page)]).toEqual([3, [false, true]]);
    expect([iotlb(page, 3, 7, 2n), cached(page)]).toEqual([3, [false, false]]);
  });

  it("do a domain where pages cannot be selected, and refuse masks above MAMV", () => {
    const coarse = stale({ ...qemu11Q35, cap: qemu11Q35.cap & ~(1n << 39n) });
    expect([iotlb(coarse, 3, 7, 0x1000n), cached(coarse)]).toEqual([2, [false, false]]);
    const refused = stale();
    expect([iotlb(refused, 3, 7, 19n), cached(refused)]).toEqual([0, [true, true]]);
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
    scalable.chip.write64(registers.IOTLB.offset, 0x9000_0000_0000_0000n);
    expect(scalable.chip.read64(registers.IOTLB.offset)).toBe(0x1000_0000_0000_0000n);
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
    [1, 0, 0, true],
    [2, 7, 0, true],
    [2, 8, 0, false],
    [3, 7, RID, true],
    [3, 7, RID ^ 8, false],
    [3, 8, RID, false],
  ])("granularity %i, domain %i, source %i", (granularity, did, sid, dropped) => {
    const bench = stale();
    bench.store(bench.contextAddress(false), 0n);
    expect(context(bench, granularity, did, sid)).toBe(granularity);
    iotlb(bench, 1, 0);
    bench.translate(0x1000n, Access.READ);
    // FR 2: context entry read again; 6: still the old one.
    expect(bench.fault().FR).toBe(dropped ? 2 : 6);
  });
});
