import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, HOLE, Machine, machine, RAM, S1_ROOT, variant } from "./machine.js";

const { OK, FAULT, ABORTED } = TranslationStatus;
const VA = 0x7000n;

describe("CD table (5.2 S1Fmt, 5.3, G15)", () => {
  it("finds the CD of each SubstreamID in a linear table", () => {
    const m = machine();
    m.ste(0, { Config: "s1", S1ContextPtr: CD_TABLE, S1CDMax: 3, S1DSS: "ssid0" });
    for (const ssid of [0, 1, 7]) {
      m.cd({ TTB0: S1_ROOT + ssid * 0x1000 }, ssid);
      m.map(VA, DATA + ssid * 0x1000, {}, { root: S1_ROOT + ssid * 0x1000 });
    }
    expect(m.translate(VA, Access.READ, 0, 7)).toBe(OK);
    expect(m.pa).toBe(DATA + 0x7000);
    expect(m.translate(VA, Access.READ, 0, 1)).toBe(OK);
    expect(m.pa).toBe(DATA + 0x1000);
    expect(m.translate(VA)).toBe(OK);
    expect(m.pa).toBe(DATA);
  });

  it.each([
    ["twoLevel4K", 6],
    ["twoLevel64K", 10],
  ] as const)("walks a table of two levels: %s", (S1Fmt, split) => {
    const m = machine();
    const leaf = RAM + 0x28_0000;
    const ssid = (2 << split) | 5;
    m.ste(0, { Config: "s1", S1ContextPtr: CD_TABLE, S1Fmt, S1CDMax: 20 });
    m.put(s.L1CD, CD_TABLE + 2 * 8, { V: true, L2Ptr: leaf });
    m.cd({}, (leaf - CD_TABLE) / 64 + 5);
    m.map(VA, DATA);
    expect(m.translate(VA, Access.READ, 0, ssid)).toBe(OK);
    expect(m.translate(VA, Access.READ, 0, 1)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_SUBSTREAMID", SubstreamID: 1 }]);
  });

  it("is found anew after CMD_CFGI_STE, level 1 included (5.2.1)", () => {
    const m = machine();
    const [first, second] = [RAM + 0x28_0000, RAM + 0x29_0000];
    m.ste(0, { Config: "s1", S1ContextPtr: CD_TABLE, S1Fmt: "twoLevel4K", S1CDMax: 20, S1DSS: "ssid0" });
    m.put(s.L1CD, CD_TABLE, { V: true, L2Ptr: first });
    m.cd({}, (first - CD_TABLE) / 64 + 1);
    m.map(VA, DATA);
    expect(m.translate(VA, Access.READ, 0, 1)).toBe(OK);
    m.put(s.L1CD, CD_TABLE, { V: true, L2Ptr: second });
    expect(m.translate(VA, Access.READ, 0, 1)).toBe(OK);
    m.command([s.CMD_CFGI_STE, { Opcode: "CFGI_STE", StreamID: 0, Leaf: true }]);
    expect(m.translate(VA, Access.READ, 0, 1)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_CD" }]);
  });

  it("has no entries where L1CD.L2Ptr is beyond the output size (5.3)", () => {
    const m = machine(variant("everything", { idr5: { OAS: "bits40" } }));
    m.ste(0, { Config: "s1", S1ContextPtr: CD_TABLE, S1Fmt: "twoLevel4K", S1CDMax: 20 });
    m.put(s.L1CD, CD_TABLE, { V: true, L2Ptr: 1n << 40n });
    m.translate(VA, Access.READ, 0, 1);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_SUBSTREAMID", SubstreamID: 1 }]);
  });

  it("records C_BAD_SUBSTREAMID beyond 2^S1CDMax, and for any SubstreamID without substreams (7.3.9)", () => {
    const m = machine();
    m.ste(0, { Config: "s1", S1ContextPtr: CD_TABLE, S1CDMax: 3 });
    m.stage1(1);
    expect(m.translate(VA, Access.READ, 0, 8)).toBe(FAULT);
    expect(m.translate(VA, Access.READ, 1, 0)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      { ID: "C_BAD_SUBSTREAMID", SubstreamID: 8 },
      { ID: "C_BAD_SUBSTREAMID", SubstreamID: 0, StreamID: 1 },
    ]);
  });

  it("records F_CD_FETCH with the address (7.3.10)", () => {
    const m = machine();
    m.ste(0, { Config: "s1", S1ContextPtr: HOLE, S1CDMax: 4 });
    m.translate(VA, Access.READ, 0, 3);
    expect(m.events()).toMatchObject([{ ID: "F_CD_FETCH", SSV: true, SubstreamID: 3, FetchAddr: HOLE + 3 * 64 }]);
  });
});

describe("S1DSS (5.2, G12)", () => {
  function withSubstreams(S1DSS: string, extra: Fields = {}): Machine {
    const m = machine();
    m.ste(0, { Config: "s1", S1ContextPtr: CD_TABLE, S1CDMax: 2, S1DSS, ...extra });
    m.cd();
    m.map(VA, DATA);
    return m;
  }

  it("terminates transactions without a substream: F_STREAM_DISABLED", () => {
    const m = withSubstreams("terminate");
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_STREAM_DISABLED", StreamID: 0 }]);
    expect(m.translate(VA, Access.READ, 0, 0)).toBe(OK);
  });

  it("bypasses stage 1 for them", () => {
    const m = withSubstreams("bypass");
    expect(m.translate(0x123_4567n)).toBe(OK);
    expect(m.pa).toBe(0x123_4567);
  });

  it("bypasses stage 1 and translates through stage 2 in nested streams", () => {
    const m = machine();
    m.ste(0, { Config: "nested", S1ContextPtr: CD_TABLE, S1CDMax: 2, S1DSS: "bypass", ...Machine.STAGE2 });
    m.map2(0x9000n, DATA);
    expect(m.translate(0x9010n)).toBe(OK);
    expect(m.pa).toBe(DATA + 0x10);
  });

  it("gives them CD 0 and takes it from SubstreamID 0", () => {
    const m = withSubstreams("ssid0");
    expect(m.translate(VA)).toBe(OK);
    expect(m.translate(VA, Access.READ, 0, 0)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_STREAM_DISABLED" }]);
  });
});

describe("CD, ILLEGAL combinations (5.4.2, G17)", () => {
  const stallForced = {
    ...s.PRESETS.everything,
    idr0: (s.PRESETS.everything.idr0 & ~s.IDR0.STALL_MODEL.lowMask) | (2 << 24),
  };
  const cases: [string, Fields, Fields, s.Smmuv3PresetName | s.Smmuv3Preset][] = [
    ["V = 0", { V: false }, {}, "everything"],
    ["AA64 = 0", { AA64: false }, {}, "everything"],
    ["S with S1STALLD", { S: true }, { S1STALLD: true }, "everything"],
    ["S where only termination is supported", { S: true }, {}, "qemu-11-virt"],
    ["S = 0 where stalls are forced", { S: false }, {}, stallForced],
    ["A = 0 with TERM_MODEL", { A: false }, {}, "qemu-11-virt"],
    ["HA without HTTU", { HA: true }, {}, "qemu-11-virt"],
    ["HD without HTTU", { HD: true }, {}, "qemu-11-virt"],
    ["ENDI on a little-endian chip", { ENDI: true }, {}, "everything"],
    ["T0SZ too small", { T0SZ: 15 }, {}, "everything"],
    ["T0SZ too large without small tables", { T0SZ: 40 }, {}, "qemu-11-virt"],
    ["T0SZ too large", { T0SZ: 49 }, {}, "everything"],
    ["TG0 reserved", { TG0: 3 }, {}, "everything"],
    ["TTB0 beyond IPS", { IPS: 0, TTB0: 0x1_0000_0000n }, {}, "everything"],
    ["TTB0 beyond 48 bits with 4 KiB", { IPS: 6, TTB0: 1n << 48n }, {}, "everything"],
    ["TG1 reserved", { EPD1: false, T1SZ: 16, TG1: 0 }, {}, "everything"],
  ];

  it.each(cases)("is C_BAD_CD: %s", (_, cd, ste, preset) => {
    const m = machine(preset);
    m.stage1(0, ste, cd);
    m.map(VA, DATA);
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_CD", StreamID: 0 }]);
  });

  it("ignores fields of a table that EPDx disables (5.4.1.1)", () => {
    const m = machine();
    m.stage1(0, {}, { EPD1: true, T1SZ: 0, TG1: 0, TTB1: 1n << 51n });
    m.map(VA, DATA);
    expect(m.translate(VA)).toBe(OK);
  });

  it("ignores ENDI when both tables are disabled", () => {
    const m = machine();
    m.stage1(0, {}, { EPD0: true, EPD1: true, ENDI: true, R: false });
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.events()).toEqual([]);
  });
});

describe("EPDx and {A, R, S} (5.5)", () => {
  it("makes every access to a disabled range F_TRANSLATION", () => {
    const m = machine();
    m.stage1(0, {}, { EPD0: true });
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION" }]);
  });

  it("ends a process quietly: V = 1, EPD0 = 1, S = R = A = 0 gives zeros and no event (C9)", () => {
    const m = machine();
    m.stage1(0, {}, { EPD0: true, R: false, A: false, T0SZ: 0, TG0: 3, TTB0: 0 });
    for (let i = 0; i < 3; i++) expect(m.translate(VA, Access.WRITE)).toBe(ABORTED);
    expect(m.events()).toEqual([]);
  });

  it.each([
    [{ A: true, R: true }, FAULT, 1],
    [{ A: true, R: false }, FAULT, 0],
    [{ A: false, R: true }, ABORTED, 1],
    [{ A: false, R: false }, ABORTED, 0],
  ])("answers a stage 1 fault as %o says", (flags, status, events) => {
    const m = machine();
    m.stage1(0, {}, flags);
    expect(m.translate(VA)).toBe(status);
    expect(m.events()).toHaveLength(events);
  });

  it("aborts stage 2 faults whatever CD.A says, and records them as S2R says", () => {
    const m = machine();
    m.stage2(0, { S2R: false });
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.events()).toEqual([]);
  });
});

describe("input ranges (3.4.1)", () => {
  it("selects TTB1 by bit 55", () => {
    const m = machine();
    m.stage1(0, {}, { EPD1: false, T1SZ: 16, TG1: "granule4K", TTB1: S1_ROOT + 0x1000 });
    m.map(VA, DATA);
    m.map(0xffff_0000_0000_7000n & ((1n << 48n) - 1n), DATA + 0x1000, {}, { root: S1_ROOT + 0x1000 });
    expect(m.translate(VA)).toBe(OK);
    expect(m.pa).toBe(DATA);
    expect(m.translate(0xffff_0000_0000_7000n)).toBe(OK);
    expect(m.pa).toBe(DATA + 0x1000);
  });

  it("records F_TRANSLATION for an address that is not sign-extended", () => {
    const m = machine();
    m.stage1(0, {}, { T0SZ: 25 });
    for (const va of [1n << 39n, 1n << 47n, 1n << 56n, 0xff00_0000_0000_7000n]) expect(m.translate(va)).toBe(FAULT);
    expect(m.events().map(({ ID }) => ID)).toEqual([
      "F_TRANSLATION",
      "F_TRANSLATION",
      "F_TRANSLATION",
      "F_TRANSLATION",
    ]);
  });

  it("ignores the top byte where TBI says so, and reports it unchanged", () => {
    const m = machine();
    m.stage1(0, {}, { TBI: 1 });
    m.map(VA, DATA);
    expect(m.translate((0xa5n << 56n) | VA)).toBe(OK);
    expect(m.translate((0xa5n << 56n) | 0x8000n)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ InputAddr: (0xa5n << 56n) | 0x8000n }]);
  });

  it("keeps unprivileged accesses out of a range with E0PD (5.4)", () => {
    const m = machine();
    m.stage1(0, {}, { E0PD0: true });
    m.map(VA, DATA);
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.translate(VA, Access.READ | Access.PRIV)).toBe(OK);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION", PnU: false }]);
  });
});

describe("StreamWorld EL2 (5.2 STRW)", () => {
  it("has one table, no ASID, and only privileged accesses", () => {
    const m = machine();
    m.stage1(0, { STRW: "nsEl2" }, { ASID: 0xffff, PAN: true });
    m.map(VA, DATA, { AP: "el1ReadWrite" });
    expect(m.translate(VA, Access.WRITE)).toBe(OK);
    expect(m.translate(0xffff_ffff_ffff_f000n)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION" }]);
  });

  it("is EL2-E2H with CR2.E2H: two tables and privilege levels", () => {
    const m = new Machine().start({}, { E2H: true });
    m.stage1(0, { STRW: "nsEl2" });
    m.map(VA, DATA, { AP: "el1ReadWrite" });
    expect(m.translate(VA)).toBe(FAULT);
    expect(m.translate(VA, Access.READ | Access.PRIV)).toBe(OK);
  });
});
