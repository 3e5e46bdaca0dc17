import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, HOLE, Machine, machine, RAM, variant } from "./machine.js";

const { OK, FAULT } = TranslationStatus;

function idOf(m: Machine): unknown {
  return m.events().map(({ ID }) => ID);
}

describe("stream table, linear (5.1, G7)", () => {
  it("records C_BAD_STREAMID beyond the table, only with CR2.RECINVSID (7.3.3)", () => {
    const m = machine();
    expect(m.translate(0n, Access.READ, 256)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_STREAMID", StreamID: 256 }]);
    const quiet = new Machine().start({}, {});
    expect(quiet.translate(0n, Access.READ, 256)).toBe(FAULT);
    expect(quiet.events()).toEqual([]);
  });

  it("records F_STE_FETCH with the address where nothing answers (7.3.4)", () => {
    const m = new Machine();
    m.set(s.STRTAB_BASE, { ADDR: HOLE });
    m.set(s.STRTAB_BASE_CFG, { LOG2SIZE: 8 });
    m.set(s.EVENTQ_BASE, { ADDR: RAM + 0x31_0000, LOG2SIZE: 4 });
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    expect(m.translate(0n, Access.READ, 3)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_STE_FETCH", StreamID: 3, FetchAddr: HOLE + 3 * 64 }]);
  });

  it("aligns the base to the table's size (6.3.24)", () => {
    const m = new Machine();
    const base = RAM + 0x10_0000;
    m.set(s.STRTAB_BASE, { ADDR: base + 0x40 });
    m.set(s.STRTAB_BASE_CFG, { LOG2SIZE: 8 });
    m.put(s.STE, base + 5 * 64, { V: true, Config: "bypass" });
    m.set(s.CR0, { SMMUEN: true });
    expect(m.translate(0x1000n, Access.READ, 5)).toBe(OK);
  });
});

describe("stream table, two levels (5.1, G10)", () => {
  const L1 = RAM + 0x10_0000;
  const L2 = RAM + 0x11_0000;

  function twoLevel(descriptor: Fields, split: "span4K" | "span16K" | "span64K" = "span4K"): Machine {
    const m = new Machine();
    m.set(s.CR2, { RECINVSID: true });
    m.set(s.STRTAB_BASE, { ADDR: L1 });
    m.set(s.STRTAB_BASE_CFG, { LOG2SIZE: 16, FMT: "twoLevel", SPLIT: split });
    m.set(s.EVENTQ_BASE, { ADDR: RAM + 0x31_0000, LOG2SIZE: 4 });
    m.put(s.L1STD, L1 + 8, descriptor);
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    return m;
  }

  it.each([
    ["span4K", 6, 7],
    ["span16K", 8, 9],
    ["span64K", 10, 11],
  ] as const)("finds the STE with SPLIT %s", (split, bits, span) => {
    const m = twoLevel({ L2Ptr: L2, Span: span }, split);
    m.put(s.STE, L2 + 3 * 64, { V: true, Config: "bypass" });
    expect(m.translate(0x5000n, Access.READ, (1 << bits) + 3)).toBe(OK);
    expect(m.pa).toBe(0x5000);
  });

  it.each([
    ["no table", 0],
    ["outside of the span", 2],
    ["beyond the split", 8],
    ["reserved", 12],
  ])("records C_BAD_STREAMID: %s", (_, span) => {
    const m = twoLevel({ L2Ptr: L2, Span: span });
    expect(m.translate(0n, Access.READ, 64 + 3)).toBe(FAULT);
    expect(idOf(m)).toEqual(["C_BAD_STREAMID"]);
  });

  it("records F_STE_FETCH for a level 2 table that does not answer", () => {
    const m = twoLevel({ L2Ptr: HOLE, Span: 7 });
    m.translate(0n, Access.READ, 64);
    expect(m.events()).toMatchObject([{ ID: "F_STE_FETCH", FetchAddr: HOLE }]);
  });
});

describe("STE.Config (5.2, G11)", () => {
  it("aborts every transaction when 0b0xx, without an event", () => {
    const m = machine();
    for (const Config of [0, 1, 2, 3]) {
      m.ste(0, { Config });
      m.flush();
      expect(m.translate(0x1000n)).toBe(FAULT);
    }
    expect(m.events()).toEqual([]);
  });

  it("passes addresses up to the output size when bypassing, and records F_ADDR_SIZE beyond (3.4)", () => {
    const m = machine("mmu-700-like");
    m.ste(0, { Config: "bypass" });
    expect(m.translate(0xffff_ffff_f123n)).toBe(OK);
    expect([m.pa, m.out.shift]).toEqual([0xffff_ffff_f123, 48]);
    expect(m.translate(1n << 48n, Access.WRITE)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_ADDR_SIZE", S2: false, Class: "IN", RnW: false }]);
  });

  it("refuses a SubstreamID where stage 1 does not translate (7.3.9)", () => {
    const m = machine();
    m.ste(0, { Config: "bypass" });
    expect(m.translate(0x1000n, Access.READ, 0, 4)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_SUBSTREAMID", SubstreamID: 4 }]);
  });
});

describe("STE, ILLEGAL combinations (5.2.2, G14)", () => {
  const nested: Fields = { Config: "nested", S1ContextPtr: CD_TABLE, ...Machine.STAGE2 };
  const illegal: [string, Fields, s.Smmuv3PresetName][] = [
    ["V = 0", { Config: "bypass", V: false }, "everything"],
    ["EATS = split-stage without nested", { Config: "s1", EATS: 2 }, "everything"],
    ["EATS = split-stage with S2S", { ...nested, EATS: 2, S2S: true }, "everything"],
    ["EATS = full with S2S", { ...nested, EATS: 1, S2S: true }, "everything"],
    ["STRW reserved", { Config: "s1", S1ContextPtr: CD_TABLE, STRW: 1 }, "everything"],
    [
      "S1STALLD where stalls are not configurable",
      { Config: "s1", S1ContextPtr: CD_TABLE, S1STALLD: true },
      "qemu-11-virt",
    ],
    ["S1CDMax beyond SSIDSIZE", { Config: "s1", S1ContextPtr: CD_TABLE, S1CDMax: 21 }, "everything"],
    ["S1ContextPtr beyond the output size", { Config: "s1", S1ContextPtr: 1n << 50n }, "mmu-700-like"],
    ["S2S without stalls", { Config: "s2", ...Machine.STAGE2, S2S: true }, "qemu-11-virt"],
    ["S2AA64 = 0", { Config: "s2", ...Machine.STAGE2, S2AA64: false }, "everything"],
    ["S2HA without HTTU", { Config: "s2", ...Machine.STAGE2, S2HA: true }, "qemu-11-virt"],
    ["S2HD without HTTU", { Config: "s2", ...Machine.STAGE2, S2HD: true }, "qemu-11-virt"],
    ["S2TG reserved", { Config: "s2", ...Machine.STAGE2, S2TG: 3 }, "everything"],
    ["S2TTB beyond S2PS", { Config: "s2", ...Machine.STAGE2, S2PS: 0, S2TTB: 0x1_0000_0000n }, "everything"],
    ["S2T0SZ too small", { Config: "s2", ...Machine.STAGE2, S2T0SZ: 15, S2SL0: 2 }, "everything"],
    ["S2T0SZ too large", { Config: "s2", ...Machine.STAGE2, S2T0SZ: 49, S2SL0: 3 }, "everything"],
    ["S2SL0 above what S2T0SZ needs", { Config: "s2", ...Machine.STAGE2, S2SL0: 2, S2T0SZ: 26 }, "everything"],
    [
      "S2SL0 below what 16 concatenated tables reach",
      { Config: "s2", ...Machine.STAGE2, S2SL0: 0, S2T0SZ: 24 },
      "everything",
    ],
    ["S2ENDI on a little-endian chip", { Config: "s2", ...Machine.STAGE2, S2ENDI: true }, "everything"],
  ];

  it.each(illegal)("is C_BAD_STE: %s", (_, ste, preset) => {
    const m = machine(preset);
    m.ste(0, ste);
    m.cd({ A: true });
    expect(m.translate(0x1000n)).toBe(FAULT);
    expect(idOf(m)).toEqual(["C_BAD_STE"]);
  });

  it("starts 16 KiB tables of stage 2 at level 1 only where more than 40 bits of output exist (Arm ARM D8.2.7)", () => {
    const start = { ...Machine.STAGE2, S2TG: "granule16K", S2SL0: 2, S2T0SZ: 24 } as const;
    const events = (OAS: string) => {
      const m = machine(variant("everything", { idr5: { OAS } }));
      m.stage2(0, start);
      m.translate(0x1000n);
      return idOf(m);
    };
    expect([events("bits40"), events("bits42")]).toEqual([["C_BAD_STE"], ["F_TRANSLATION"]]);
  });

  it("ignores stage 2 fields of a stream without stage 2, and STRW and S1 fields of one without stage 1", () => {
    const m = machine("qemu-11-virt");
    m.stage1(0, { S2HA: true, S2TG: 3, S2ENDI: true });
    m.map(0x1000n, DATA);
    expect(m.translate(0x1000n)).toBe(OK);
    m.stage2(1, { S1STALLD: true, STRW: 3, S1Fmt: 2, S1CDMax: 31 });
    m.map2(0x1000n, DATA);
    expect(m.translate(0x1000n, Access.READ, 1)).toBe(OK);
    expect(idOf(m)).toEqual([]);
  });

  it("refuses a stage that is not implemented", () => {
    const { idr0 } = s.PRESETS["qemu-11-virt"];
    const only1 = { ...s.PRESETS["qemu-11-virt"], idr0: idr0 & ~s.IDR0.S2P.lowMask };
    const m = machine(only1);
    m.stage2();
    m.translate(0x1000n);
    const only2 = { ...s.PRESETS["qemu-11-virt"], idr0: idr0 & ~s.IDR0.S1P.lowMask };
    const other = machine(only2);
    other.stage1();
    other.translate(0x1000n);
    expect([idOf(m), idOf(other)]).toEqual([["C_BAD_STE"], ["C_BAD_STE"]]);
  });

  it("takes 8-bit identifiers only where the chip has no more", () => {
    const { idr0 } = s.PRESETS["qemu-11-virt"];
    const m = machine({ ...s.PRESETS["qemu-11-virt"], idr0: idr0 & ~(s.IDR0.ASID16.lowMask | s.IDR0.VMID16.lowMask) });
    m.stage2(0, { S2VMID: 0x100 });
    m.translate(0x1000n);
    m.stage1(1, {}, { ASID: 0x100 });
    m.translate(0x1000n, Access.READ, 1);
    expect(idOf(m)).toEqual(["C_BAD_STE", "C_BAD_CD"]);
  });
});

describe("PRIVCFG and INSTCFG (5.2, 13.1.2)", () => {
  it("replaces what the transaction says, and writes stay data", () => {
    const m = machine();
    m.stage1(0, { PRIVCFG: "privileged", INSTCFG: "instruction" });
    m.map(0x1000n, DATA, { AP: "el1ReadWrite", PXN: true });
    expect(m.translate(0x1000n, Access.WRITE)).toBe(OK);
    expect(m.translate(0x1000n, Access.READ)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_PERMISSION", PnU: true, InD: true, RnW: true }]);
  });

  it("is ignored without IDR1.ATTR_PERMS_OVR", () => {
    const m = machine("qemu-11-virt");
    m.stage1(0, { PRIVCFG: "privileged" });
    m.map(0x1000n, DATA, { AP: "el1ReadWrite" });
    expect(m.translate(0x1000n)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_PERMISSION", PnU: false }]);
  });
});
