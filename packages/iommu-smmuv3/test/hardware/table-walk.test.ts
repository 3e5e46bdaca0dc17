import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, HOLE, Machine, machine, RAM, S1_ROOT, S2_ROOT } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const BIG = 0x4000_0000;

describe("stage 1 granules and levels (G19)", () => {
  const sizes: [granule: number, tg: string, bits: number, level: number, size: number][] = [
    [12, "granule4K", 48, 3, 12],
    [12, "granule4K", 48, 2, 21],
    [12, "granule4K", 48, 1, 30],
    [12, "granule4K", 39, 3, 12],
    [12, "granule4K", 30, 2, 21],
    [12, "granule4K", 20, 3, 12],
    [14, "granule16K", 48, 3, 14],
    [14, "granule16K", 48, 2, 25],
    [14, "granule16K", 36, 3, 14],
    [16, "granule64K", 48, 3, 16],
    [16, "granule64K", 42, 2, 29],
    [16, "granule64K", 29, 3, 16],
  ];

  it.each(sizes)("translates with granule 2^%i (%s), %i bits, level %i", (granule, TG0, bits, level, size) => {
    const m = machine();
    m.stage1(0, {}, { TG0, T0SZ: 64 - bits });
    const va = (1n << BigInt(bits)) - (1n << BigInt(size));
    const pa = size > 24 ? BIG : DATA;
    m.map(va, pa, {}, { granule, bits, level });
    expect(m.translate(va + 0x234n)).toBe(OK);
    expect([m.pa, m.out.shift]).toEqual([pa + 0x234, size]);
  });

  it("translates 52-bit addresses with 64 KiB, input and output (5.4 T0SZ, IPS)", () => {
    const m = machine();
    m.stage1(0, {}, { TG0: "granule64K", T0SZ: 12, IPS: 6 });
    const va = (1n << 52n) - 0x1_0000n;
    m.map(va, 0xa_4321_5678_0000, {}, { granule: 16, bits: 52 });
    expect(m.translate(va + 8n)).toBe(OK);
    expect(m.pa).toBe(0xa_4321_5678_0008);
    m.map(1n << 42n, 0x8_0000_0000_0000, {}, { granule: 16, bits: 52, level: 1 });
    expect(m.translate((1n << 42n) + 0x5_0000_0000n)).toBe(OK);
    expect([m.pa, m.out.shift]).toEqual([0x8_0005_0000_0000, 42]);
  });

  it("joins a contiguous set into one TLB entry, unless its addresses do not fit (D8.7.1)", () => {
    const m = machine();
    m.stage1();
    m.map(0x11_0000n, DATA, { Contiguous: true });
    expect(m.translate(0x11_0000n)).toBe(OK);
    expect(m.out.shift).toBe(16);
    m.map(0x23_3000n, DATA + 0x1000, { Contiguous: true });
    expect(m.translate(0x23_3000n)).toBe(OK);
    expect([m.pa, m.out.shift]).toEqual([DATA + 0x1000, 12]);
  });

  it("refuses block and page types where the level has none", () => {
    const m = machine();
    m.stage1();
    const leaf = m.map(0x1000n, DATA);
    m.memory.store64(leaf, 0, Number(m.memory.load64(leaf) & ~2n));
    expect(m.translate(0x1000n)).toBe(FAULT);
    m.memory.store64(S1_ROOT + 8, 0, BIG | 0x741);
    expect(m.translate(1n << 39n)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION" }, { ID: "F_TRANSLATION" }]);
  });
});

describe("stage 1 faults (7.3.22, G20)", () => {
  it("records F_ADDR_SIZE for a page or a table beyond IPS, before the access flag", () => {
    const m = machine();
    m.stage1(0, {}, { IPS: 1 });
    m.map(0x1000n, 2 ** 36, { AF: false, AP: "el1ReadOnly" });
    expect(m.translate(0x1000n, Access.WRITE)).toBe(FAULT);
    m.memory.store64(S1_ROOT + 8, 16, 3);
    expect(m.translate(1n << 39n)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_ADDR_SIZE", S2: false, Class: "IN" }, { ID: "F_ADDR_SIZE" }]);
  });

  it("records F_ACCESS before F_PERMISSION, and neither with AFFD and permission", () => {
    const m = machine();
    m.stage1();
    m.map(0x1000n, DATA, { AF: false, AP: "readOnly" });
    m.translate(0x1000n, Access.WRITE);
    m.cd({ AFFD: true });
    m.flush();
    m.translate(0x1000n, Access.WRITE);
    expect(m.translate(0x1000n)).toBe(OK);
    expect(m.events()).toMatchObject([{ ID: "F_ACCESS" }, { ID: "F_PERMISSION", RnW: false }]);
  });
});

describe("stage 2 (G18, G19)", () => {
  it("translates an IPA, with concatenated start tables", () => {
    const m = machine();
    m.stage2();
    const ipa = (1n << 39n) + 0x5000n;
    m.map2(ipa, DATA);
    expect(m.translate(ipa + 0x42n, Access.WRITE)).toBe(OK);
    expect(m.pa).toBe(DATA + 0x42);
  });

  it("records F_TRANSLATION with the IPA beyond S2T0SZ (7.3.13)", () => {
    const m = machine();
    m.stage2();
    expect(m.translate((1n << 40n) + 0x1abcn)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      { ID: "F_TRANSLATION", S2: true, Class: "IN", IPA: 2 ** 40 + 0x1000, InputAddr: (1n << 40n) + 0x1abcn },
    ]);
  });

  it.each([
    ["none", 0],
    ["readOnly", Access.READ],
    ["writeOnly", Access.WRITE],
    ["readWrite", Access.READ | Access.WRITE],
  ])("permits as S2AP = %s says", (S2AP, allowed) => {
    const m = machine();
    m.stage2();
    m.map2(0x1000n, DATA, { S2AP });
    for (const access of [Access.READ, Access.WRITE])
      expect(m.translate(0x1000n, access)).toBe((allowed & access) !== 0 ? OK : FAULT);
  });

  it.each([
    [0, true, true],
    [1, true, false],
    [2, false, false],
    [3, false, true],
  ])("executes as XN = %i says: EL0 %s, EL1 %s (IDR3.XNX)", (XN, el0, el1) => {
    const m = machine();
    m.stage2();
    m.map2(0x1000n, DATA, { XN, S2AP: "none" });
    expect(m.translate(0x1000n, Access.EXEC)).toBe(el0 ? OK : FAULT);
    expect(m.translate(0x1000n, Access.EXEC | Access.PRIV)).toBe(el1 ? OK : FAULT);
  });

  it("records F_ADDR_SIZE beyond S2PS and F_WALK_EABT with the descriptor's address", () => {
    const m = machine();
    m.stage2(0, { S2PS: 1 });
    m.map2(0x1000n, 2 ** 36);
    m.translate(0x1000n);
    m.memory.store64(S2_ROOT + 8, 9, 3);
    m.translate(0x4000_0000n);
    expect(m.events()).toMatchObject([
      { ID: "F_ADDR_SIZE", S2: true },
      { ID: "F_WALK_EABT", S2: true, Class: "IN", FetchAddr: HOLE },
    ]);
  });
});

describe("nested (3.3.2, 7.3.22)", () => {
  /** IPA = PA for RAM's tables; data at an IPA of its own. */
  function nested(ste: object = {}, cd: object = {}): Machine {
    const m = machine();
    m.ste(0, { Config: "nested", S1ContextPtr: CD_TABLE, ...Machine.STAGE2, ...ste });
    m.cd(cd as never);
    for (const page of [CD_TABLE, S1_ROOT]) m.map2(BigInt(page), page);
    return m;
  }

  it("finds CD, tables and output through stage 2; the smaller page wins", () => {
    const m = nested();
    m.map2(BigInt(RAM + 0x60_0000), RAM + 0x60_0000, {}, { level: 2 });
    m.map(0x20_0000n, 0x80_0000, {}, { level: 2 });
    m.map2(0x80_5000n, DATA + 0x5000);
    expect(m.translate(0x20_5678n, Access.WRITE)).toBe(OK);
    expect([m.pa, m.out.shift]).toEqual([DATA + 0x5678, 12]);
  });

  it("takes a stage 1 page inside of a stage 2 block", () => {
    const m = nested();
    m.map2(BigInt(RAM + 0x60_0000), RAM + 0x60_0000, {}, { level: 2 });
    m.map(0x3000n, 0x80_4000);
    m.map2(0x80_0000n, RAM + 0x20_0000, {}, { level: 2 });
    expect(m.translate(0x3abcn)).toBe(OK);
    expect([m.pa, m.out.shift]).toEqual([RAM + 0x20_4abc, 12]);
  });

  it("tells with CLASS what the stage 2 fault was found for", () => {
    const m = machine();
    m.ste(0, { Config: "nested", S1ContextPtr: CD_TABLE, ...Machine.STAGE2 });
    m.cd();
    m.translate(0x1000n, Access.WRITE);
    m.map2(BigInt(CD_TABLE), CD_TABLE);
    m.translate(0x1000n, Access.WRITE);
    m.map2(BigInt(S1_ROOT), S1_ROOT);
    m.map2(BigInt(RAM + 0x60_0000), RAM + 0x60_0000, {}, { level: 2 });
    m.map(0x1000n, 0x80_0000);
    m.translate(0x1000n, Access.WRITE);
    expect(m.events()).toMatchObject([
      { ID: "F_TRANSLATION", S2: true, Class: "CD", IPA: CD_TABLE, RnW: false },
      { ID: "F_TRANSLATION", S2: true, Class: "TT", IPA: S1_ROOT },
      { ID: "F_TRANSLATION", S2: true, Class: "IN", IPA: 0x80_0000 },
    ]);
  });

  it("denies table walks into Device memory with S2PTW (5.2)", () => {
    const m = nested({ S2PTW: true });
    m.map2(BigInt(S1_ROOT), S1_ROOT, { MemAttr: 0 });
    m.translate(0x1000n);
    expect(m.events()).toMatchObject([{ ID: "F_PERMISSION", S2: true, Class: "TT", TTRnW: true }]);
  });

  it("gives each stage its own fault: permission of stage 1 first", () => {
    const m = nested();
    m.map2(BigInt(RAM + 0x60_0000), RAM + 0x60_0000, {}, { level: 2 });
    m.map(0x1000n, 0x80_0000, { AP: "readOnly" });
    m.map2(0x80_0000n, DATA, { S2AP: "readOnly" });
    m.translate(0x1000n, Access.WRITE);
    expect(m.translate(0x1000n)).toBe(OK);
    m.translate(0x1000n, Access.WRITE);
    m.map(0x2000n, 0x80_0000);
    expect(m.translate(0x2000n)).toBe(OK);
    m.translate(0x2abcn, Access.WRITE);
    expect(m.events()).toMatchObject([
      { ID: "F_PERMISSION", S2: false },
      { ID: "F_PERMISSION", S2: false },
      { ID: "F_PERMISSION", S2: true, IPA: 0x80_0000 },
    ]);
  });
});

describe("table fetches", () => {
  it("shows each in the trace, from the STE to the page", () => {
    const m = machine();
    m.stage1();
    m.map(0x1000n, DATA);
    const reads = m
      .traced(() => m.translate(0x1000n))
      .flatMap((record) => (record.name === "table:read" ? [record.table] : []));
    expect(reads).toEqual(["STE", "CD", "S1 L0", "S1 L1", "S1 L2", "S1 L3"]);
    expect(s.PRESETS.everything.caches.walk.sets).toBeGreaterThan(0);
    m.map(0x2000n, DATA);
    const again = m
      .traced(() => m.translate(0x2000n))
      .flatMap((record) => (record.name === "table:read" ? [record.table] : []));
    expect(again).toEqual(["S1 L3"]);
  });
});
