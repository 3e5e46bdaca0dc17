import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, HOLE, Machine, machine, RAM, S2_ROOT } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const ONE_SET_OF_TWO = { sets: 1, ways: 2 } as const;

function withCaches(caches: Partial<s.CacheGeometry>): Machine {
  const preset = s.PRESETS.everything;
  return new Machine({ ...preset, name: "small", caches: { ...preset.caches, ...caches } }).start();
}

/** Table reads of an access, by name. */
const reads = (m: Machine, va: bigint, pasid = -1) =>
  m
    .traced(() => m.translate(va, Access.READ, 0, pasid))
    .filter(({ name }) => name === "table:read")
    .map((record) => ("table" in record ? record.table : ""));

describe("replacement in configuration caches (3.21.3)", () => {
  it("forgets the STE that was there longest when a set is full; the others stay until CMD_CFGI_STE", () => {
    const m = withCaches({ ste: ONE_SET_OF_TWO });
    for (const sid of [0, 1, 2]) m.ste(sid, { Config: "bypass" });
    for (const sid of [0, 1, 2]) expect(m.translate(0n, Access.READ, sid)).toBe(OK);
    for (const sid of [1, 2, 0]) m.ste(sid, { Config: "abort" });
    expect([1, 2].map((sid) => m.translate(0n, Access.READ, sid))).toEqual([OK, OK]);
    expect(m.translate(0n, Access.READ, 0)).toBe(FAULT);
  });

  it("does so with CDs of the same stream", () => {
    const m = withCaches({ cd: ONE_SET_OF_TWO });
    m.stage1(0, { S1CDMax: 2, S1DSS: "ssid0" });
    for (const ssid of [1, 2, 3]) m.cd({}, ssid);
    m.map(0x1000n, DATA);
    for (const ssid of [1, 2, 3]) expect(m.translate(0x1000n, Access.READ, 0, ssid)).toBe(OK);
    for (const ssid of [1, 2, 3]) m.put(s.CD, CD_TABLE + ssid * 64, {});
    expect([2, 3, 1].map((ssid) => m.translate(0x1000n, Access.READ, 0, ssid))).toEqual([OK, OK, FAULT]);
  });

  it("keeps nothing in a chip without them", () => {
    const none = { sets: 0, ways: 0 };
    const m = withCaches({ ste: none, cd: none, l1: none, tlb: none, walk: none });
    m.stage1();
    const leaf = m.map(0x1000n, DATA);
    expect(m.translate(0x1000n)).toBe(OK);
    m.memory.store64(leaf, 0, 0);
    expect(m.translate(0x1000n)).toBe(FAULT);
    m.ste(0, { Config: "bypass" });
    expect(m.translate(0x1000n)).toBe(OK);
  });
});

describe("replacement in the TLB (3.21)", () => {
  it("forgets the page that was there longest when a set is full", () => {
    const m = withCaches({ tlb: ONE_SET_OF_TWO });
    m.stage1();
    const leaves = [0x1000n, 0x2000n, 0x3000n].map((va) => m.map(va, DATA));
    for (const va of [0x1000n, 0x2000n, 0x3000n]) expect(m.translate(va)).toBe(OK);
    for (const leaf of leaves) m.memory.store64(leaf, 0, 0);
    expect([0x2000n, 0x3000n, 0x1000n].map((va) => m.translate(va))).toEqual([OK, OK, FAULT]);
  });
});

describe("table descriptors of both stages (3.21.1)", () => {
  it("spare a walk the levels above, at stage 2 too, until an invalidation that is not for leaves only", () => {
    const m = machine();
    m.stage2();
    for (const page of [0x1000n, 0x2000n, 0x3000n]) m.map2(page, DATA);
    expect(reads(m, 0x1000n)).toEqual(["STE", "S2 L1", "S2 L2", "S2 L3"]);
    expect(reads(m, 0x2000n)).toEqual(["S2 L3"]);
    const invalidate = (Leaf: boolean) =>
      m.command([s.CMD_TLBI_S2_IPA, { Opcode: "TLBI_S2_IPA", VMID: 7, Address: 0x2000, Leaf }]);
    invalidate(true);
    expect(reads(m, 0x2000n)).toEqual(["S2 L3"]);
    invalidate(false);
    expect(reads(m, 0x2000n)).toEqual(["S2 L1", "S2 L2", "S2 L3"]);
    // The hint is about the leaf (4.4.1.1).
    const range = { Address: 0x2000, TG: "granule4K", TTL: "level3" } as const;
    m.command([s.CMD_TLBI_S2_IPA, { Opcode: "TLBI_S2_IPA", VMID: 7, ...range }]);
    expect(reads(m, 0x2000n)).toEqual(["S2 L1", "S2 L2", "S2 L3"]);
  });
});

describe("contiguous sets (Arm ARM D8.7.1)", () => {
  it.each([
    [12, 3, 16],
    [12, 2, 25],
    [14, 3, 21],
    [14, 2, 30],
    [16, 3, 21],
    [16, 2, 34],
  ])("of a %i-bit granule at level %i are one entry of %i bits", (granule, level, shift) => {
    const m = machine();
    const TG0 = granule === 12 ? "granule4K" : granule === 14 ? "granule16K" : "granule64K";
    m.stage1(0, {}, { TG0 });
    const va = 1n << 40n;
    // The output need not exist in memory: only its place in the set counts.
    m.map(va, 2 ** 36, { Contiguous: true }, { granule, level });
    expect(m.translate(va)).toBe(OK);
    expect([m.out.shift, m.pa]).toEqual([shift, 2 ** 36]);
  });

  it("are one entry at stage 2 too; the hint is ignored by a chip without it", () => {
    for (const contiguousHint of [true, false]) {
      const m = withCaches({ contiguousHint });
      m.stage2();
      m.map2(0x1_1000n, DATA + 0x1000, { Contiguous: true });
      expect(m.translate(0x1_1234n)).toBe(OK);
      expect([m.out.shift, m.pa]).toEqual([contiguousHint ? 16 : 12, DATA + 0x1234]);
    }
  });
});

describe("CD fetch through stage 2 (5.2, 7.3.16)", () => {
  it("is F_PERMISSION of class CD where S2PTW is set and stage 2 maps the CD as Device memory", () => {
    const m = machine();
    m.ste(0, { Config: "nested", S1ContextPtr: CD_TABLE, ...Machine.STAGE2, S2PTW: true });
    m.cd();
    m.map2(BigInt(CD_TABLE), CD_TABLE, { MemAttr: 1 });
    expect(m.translate(0x1000n)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      { ID: "F_PERMISSION", S2: true, Class: "CD", IPA: CD_TABLE, InputAddr: 0x1000n },
    ]);
  });

  it("takes the fault of a stage 2 table that is not in memory as F_WALK_EABT of class CD", () => {
    const m = machine();
    m.ste(0, { Config: "nested", S1ContextPtr: CD_TABLE, ...Machine.STAGE2 });
    m.put(s.TABLE_DESCRIPTOR, S2_ROOT + (RAM >>> 30) * 8, { Type: "tableOrPage", NextLevelTable: HOLE });
    expect(m.translate(0x1000n)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_WALK_EABT", S2: true, Class: "CD" }]);
  });
});

describe("commands consumed", () => {
  it("are counted by name since power-on, for who measures drivers", () => {
    const m = machine();
    m.command([s.CMD_CFGI_STE, { Opcode: "CFGI_STE" }], [s.CMD_CFGI_STE, { Opcode: "CFGI_STE", StreamID: 1 }]);
    expect(m.chip.commandsConsumed()).toEqual({ CMD_CFGI_STE: 2, CMD_SYNC: 1 });
  });
});
