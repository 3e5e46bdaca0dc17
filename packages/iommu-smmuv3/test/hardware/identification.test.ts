import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, Machine, machine, S1_ROOT, variant } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const { READ, WRITE, EXEC, PRIV } = Access;
const VA = 0x1000n;

const get = <V>(m: Machine, register: { offset: number; decode(words: Int32Array): V }): V =>
  register.decode(Int32Array.of(m.chip.read32(register.offset)));

const idOf = (m: Machine): unknown => m.events().map(({ ID }) => ID);

/** Whether a stream 0 with these entries translates a page with these attributes. */
function translates(
  preset: s.Smmuv3Preset | s.Smmuv3PresetName,
  { ste = {}, cd = {}, leaf = {}, access = READ }: { ste?: Fields; cd?: Fields; leaf?: Fields; access?: number },
): boolean {
  const m = machine(preset);
  m.stage1(0, ste, cd);
  m.map(VA, DATA, leaf);
  return m.translate(VA, access) === OK;
}

/** Turns the bytes of every descriptor in these pages round. */
function reverse({ memory }: Machine, ...pages: readonly number[]): void {
  for (const page of pages) {
    for (let at = page; at < page + 0x1000; at += 8) {
      const bytes = new Uint8Array(8);
      memory.readBytes(at, bytes);
      memory.writeBytes(at, bytes.reverse());
    }
  }
}

describe("what IDR0 says", () => {
  it("HYP: without it STRW is ignored and EL2 commands are illegal (6.3.1)", () => {
    const without = variant("everything", { idr0: { HYP: false } });
    // EL2 without E2H has privileged accesses only.
    const el2 = { ste: { STRW: "nsEl2" }, leaf: { AP: "el1ReadWrite" } };
    expect([translates("everything", el2), translates(without, el2)]).toEqual([true, false]);
    const m = machine(without);
    m.command([s.CMD_TLBI_EL2_ALL, { Opcode: "TLBI_EL2_ALL" }]);
    expect(get(m, s.CMDQ_CONS).ERR).toBe("CERROR_ILL");
  });

  it("NS1ATS: with it EATS = 0b10 is ILLEGAL (5.2.2)", () => {
    for (const [NS1ATS, events] of [
      [false, []],
      [true, ["C_BAD_STE"]],
    ] as const) {
      const m = new Machine(variant("everything", { idr0: { NS1ATS } })).start({ ATSCHK: true });
      m.stage1(0, { Config: "nested", ...Machine.STAGE2, EATS: "s1check" });
      m.map2(BigInt(CD_TABLE), CD_TABLE, {}, { level: 2 });
      m.map2(BigInt(S1_ROOT), S1_ROOT, {}, { level: 2 });
      m.map2(BigInt(S1_ROOT) + 0x20_0000n, S1_ROOT + 0x20_0000, {}, { level: 2 });
      m.map2(BigInt(DATA), DATA, {}, { level: 2 });
      m.map(VA, DATA);
      m.translate(VA);
      expect(idOf(m)).toEqual(events);
    }
  });

  it.each([
    [false, true],
    [true, false],
    [true, true],
  ])(
    "TTENDIAN: with mixed, CD.ENDI %s and STE.S2ENDI %s say the byte order of each stage, updates included",
    (ENDI, S2ENDI) => {
      const m = machine(variant("everything", { idr0: { TTENDIAN: "mixed" } }));
      m.stage1(0, { Config: "nested", ...Machine.STAGE2, S2ENDI, S2HA: true }, { ENDI, HA: true, HD: true });
      const tables = S1_ROOT + 0x20_0000;
      for (const pa of [CD_TABLE, S1_ROOT, tables]) m.map2(BigInt(pa), pa, {}, { level: 2 });
      const page = m.map2(BigInt(DATA), DATA, { AF: false }, { level: 2 });
      const leaf = m.map(VA, DATA, { AP: "readOnly", DBM: true, AF: false });
      if (S2ENDI) reverse(m, S1_ROOT + 0x10_0000, page & ~0xfff);
      if (ENDI) reverse(m, S1_ROOT, ...[1, 2, 3].map((n) => (leaf & ~0xfff) - (n - 1) * 0x1000));
      expect([m.translate(VA), m.pa]).toEqual([OK, DATA]);
      expect([m.translate(VA, WRITE), m.pa]).toEqual([OK, DATA]);
      const bits = (at: number, reversed: boolean) => {
        if (reversed) reverse(m, at & ~0xfff);
        return m.memory.load32(at) & 0x480;
      };
      // Accessed; dirty: AP[2] is clear.
      expect([bits(leaf, ENDI), bits(page, S2ENDI) & 0x400]).toEqual([0x400, 0x400]);
    },
  );

  it("MSI: without it there are no messages and no registers for them (6.3.21, 4.7.3)", () => {
    for (const [MSI, messages] of [
      [true, 1],
      [false, 0],
    ] as const) {
      const m = new Machine(variant("everything", { idr0: { MSI } }));
      m.set(s.EVENTQ_IRQ_CFG0, { ADDR: 0x800_0040 });
      m.start();
      m.stage1();
      m.translate(VA);
      expect([m.wires, m.messages.length]).toEqual([["eventq"], messages]);
    }
  });

  it("SEV: without it CMD_SYNC sends no event (4.7.3)", () => {
    for (const [SEV, wires] of [
      [true, ["sev"]],
      [false, []],
    ] as const) {
      const m = machine(variant("everything", { idr0: { SEV } }));
      m.submit(s.CMD_SYNC.encode({ Opcode: "SYNC", CS: "sev" }));
      expect(m.wires).toEqual(wires);
    }
  });

  it("ST_LEVEL: without two levels STRTAB_BASE_CFG has only LOG2SIZE (6.3.25)", () => {
    for (const [ST_LEVEL, FMT] of [
      ["twoLevel", "twoLevel"],
      ["linear", "linear"],
    ]) {
      const m = new Machine(variant("everything", { idr0: { ST_LEVEL } }));
      m.set(s.STRTAB_BASE_CFG, { LOG2SIZE: 9, FMT: "twoLevel", SPLIT: "span4K" });
      expect(get(m, s.STRTAB_BASE_CFG)).toMatchObject({ LOG2SIZE: 9, FMT });
    }
  });
});

describe("what IDR1 says", () => {
  it("SIDSIZE: no StreamID is beyond it, however large the table is (6.3.2, 6.3.25)", () => {
    const m = machine(variant("everything", { idr1: { SIDSIZE: 4 } }));
    for (const sid of [15, 16]) m.ste(sid, { Config: "bypass" });
    expect([m.translate(VA, READ, 15), m.translate(VA, READ, 16)]).toEqual([OK, FAULT]);
    expect(idOf(m)).toEqual(["C_BAD_STREAMID"]);
  });

  it("EVENTQS: no event queue is longer (6.3.29)", () => {
    const m = machine(variant("everything", { idr1: { EVENTQS: 1 } }));
    m.stage1();
    for (let i = 0; i < 3; i++) m.translate(VA);
    expect(get(m, s.EVENTQ_PROD)).toEqual({ WR: 2, OVFLG: true });
  });

  it("ATTR_PERMS_OVR: without it GBPA and the STE do not override (6.3.14, 5.2)", () => {
    const without = variant("everything", { idr1: { ATTR_PERMS_OVR: false } });
    const override = { ste: { PRIVCFG: "privileged" }, leaf: { AP: "el1ReadWrite" } };
    expect([translates("everything", override), translates(without, override)]).toEqual([true, false]);
    for (const [preset, expected] of [
      ["everything", { PRIVCFG: "privileged", INSTCFG: "instruction" }],
      [without, { PRIVCFG: "incoming", INSTCFG: "incoming" }],
    ] as const) {
      const m = new Machine(preset);
      m.set(s.GBPA, { PRIVCFG: "privileged", INSTCFG: "instruction", UPDATE: true });
      expect(get(m, s.GBPA)).toMatchObject(expected);
    }
  });
});

describe("what IDR3 says", () => {
  it("HAD: without it hierarchical attributes cannot be disabled (5.4)", () => {
    for (const [HAD, status] of [
      [true, OK],
      [false, FAULT],
    ] as const) {
      const m = machine(variant("everything", { idr3: { HAD } }));
      m.stage1(0, {}, { HAD0: true });
      m.map(VA, DATA);
      const next = m.memory.load64(S1_ROOT);
      m.put(s.TABLE_DESCRIPTOR, S1_ROOT, {
        Type: "tableOrPage",
        NextLevelTable: next & 0xffff_ffff_f000n,
        APTable: "readOnly",
      });
      expect(m.translate(VA, WRITE)).toBe(status);
    }
  });

  it("XNX: without it XN[0] is ignored at stage 2 (Arm ARM D8.4)", () => {
    for (const [XNX, expected] of [
      [true, [OK, FAULT]],
      [false, [OK, OK]],
    ] as const) {
      const m = machine(variant("everything", { idr3: { XNX } }));
      m.stage2();
      m.map2(VA, DATA, { XN: "el0Only" });
      expect([m.translate(VA, EXEC), m.translate(VA, EXEC | PRIV)]).toEqual(expected);
    }
  });

  it("FWB: with it S2FWB changes which MemAttr is Device memory, as S2PTW sees it (5.2)", () => {
    for (const [FWB, MemAttr, status] of [
      [true, 8, FAULT],
      [false, 8, OK],
      [true, 6, OK],
      [false, 0, FAULT],
    ] as const) {
      const m = machine(variant("everything", { idr3: { FWB } }));
      m.stage1(0, { Config: "nested", ...Machine.STAGE2, S2FWB: true, S2PTW: true });
      m.map2(BigInt(CD_TABLE), CD_TABLE, {}, { level: 2 });
      m.map2(BigInt(S1_ROOT), S1_ROOT, { MemAttr }, { level: 2 });
      m.map2(BigInt(S1_ROOT) + 0x20_0000n, S1_ROOT + 0x20_0000, {}, { level: 2 });
      m.map2(BigInt(DATA), DATA, {}, { level: 2 });
      m.map(VA, DATA);
      expect(m.translate(VA)).toBe(status);
    }
  });

  it("STT: without it T0SZ ends at 39 (3.4.1)", () => {
    const small = { cd: { T0SZ: 40 } };
    const m = machine(variant("everything", { idr3: { STT: false } }));
    m.stage1(0, {}, small.cd);
    m.translate(VA);
    expect(idOf(m)).toEqual(["C_BAD_CD"]);
    const full = machine("everything");
    full.stage1(0, {}, small.cd);
    full.translate(VA);
    expect(idOf(full)).toEqual(["F_TRANSLATION"]);
  });

  it("E0PD: without it E0PD0 is ignored (5.4)", () => {
    const without = variant("everything", { idr3: { E0PD: false } });
    const protectedRange = { cd: { E0PD0: true } };
    expect([translates("everything", protectedRange), translates(without, protectedRange)]).toEqual([false, true]);
  });
});

describe("TTB1 (5.4)", () => {
  const high = 0xffff_0000_0000_1000n;
  const inTable = high & ((1n << 48n) - 1n);
  const second = S1_ROOT + 0x1000;

  function upper(cd: Fields): Machine {
    const m = machine();
    m.stage1(0, {}, { EPD1: false, T1SZ: 16, TG1: "granule4K", TTB1: second, ...cd });
    m.map(inTable, DATA, {}, { root: second });
    return m;
  }

  it("has its own E0PD1 and HAD1", () => {
    expect(upper({}).translate(high)).toBe(OK);
    const kept = upper({ E0PD1: true });
    expect([kept.translate(high), kept.translate(high, READ | PRIV)]).toEqual([FAULT, OK]);
    for (const [HAD1, status] of [
      [true, OK],
      [false, FAULT],
    ] as const) {
      const m = upper({ HAD1 });
      const next = m.memory.load64(second);
      m.put(s.TABLE_DESCRIPTOR, second, {
        Type: "tableOrPage",
        NextLevelTable: next & 0xffff_ffff_f000n,
        UXNTable: true,
        PXNTable: true,
        APTable: "noEl0",
      });
      expect(m.translate(high)).toBe(status);
    }
  });
});
