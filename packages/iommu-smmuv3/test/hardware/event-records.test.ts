import { Access, AtsStatus, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, HOLE, Machine, machine, RAM, S1_ROOT } from "./machine.js";

const { STALLED, FAULT } = TranslationStatus;
const { READ, WRITE, EXEC, PRIV } = Access;
const VA = 0x1000n;
const SID = 5;
const SSID = 3;

/** Stream 5 with substreams; its substream 3 stalls on faults. */
function stalling(cd: Fields = {}): Machine {
  const m = machine();
  m.ste(SID, { Config: "s1", S1ContextPtr: CD_TABLE, S1CDMax: 3, S1DSS: "terminate" });
  m.cd({ S: true, ...cd }, SSID);
  return m;
}

describe("a stage 1 fault of a substream that stalls (7.3.13 to 7.3.16)", () => {
  const all = {
    SSV: true,
    SubstreamID: SSID,
    StreamID: SID,
    Stall: true,
    STAG: 0,
    PnU: true,
    InD: true,
    RnW: true,
    S2: false,
    Class: "IN",
    InputAddr: VA,
  } as const;

  it.each([
    ["F_TRANSLATION", [s.F_TRANSLATION, { ID: "F_TRANSLATION", ...all }], {}, undefined],
    ["F_ADDR_SIZE", [s.F_ADDR_SIZE, { ID: "F_ADDR_SIZE", ...all }], { IPS: 0 }, [HOLE, {}]],
    ["F_ACCESS", [s.F_ACCESS, { ID: "F_ACCESS", ...all }], {}, [DATA, { AF: false }]],
    ["F_PERMISSION", [s.F_PERMISSION, { ID: "F_PERMISSION", ...all }], {}, [DATA, { PXN: true }]],
  ] as const)("is %s with every field of the transaction", (_, [, expected], cd, page) => {
    const m = stalling(cd);
    if (page) m.map(VA, page[0], page[1]);
    expect(m.translate(VA, EXEC | PRIV, SID, SSID)).toBe(STALLED);
    expect(m.events()).toMatchObject([expected]);
  });
});

describe("a stage 2 fault of a stage 1 walk (7.3.13 to 7.3.16)", () => {
  const all = { S2: true, Class: "TT", TTRnW: true, IPA: S1_ROOT, InputAddr: VA, StreamID: 0, InD: true } as const;

  it.each([
    ["F_TRANSLATION", [s.F_TRANSLATION, { ID: "F_TRANSLATION", ...all }], {}, undefined],
    ["F_ADDR_SIZE", [s.F_ADDR_SIZE, { ID: "F_ADDR_SIZE", ...all }], { S2PS: 0 }, [HOLE, {}]],
    ["F_ACCESS", [s.F_ACCESS, { ID: "F_ACCESS", ...all }], {}, [S1_ROOT, { AF: false }]],
    ["F_PERMISSION", [s.F_PERMISSION, { ID: "F_PERMISSION", ...all }], {}, [S1_ROOT, { S2AP: "none" }]],
  ] as const)("is %s with the table's IPA", (_, [, expected], ste, page) => {
    const m = machine();
    m.stage1(0, { Config: "nested", ...Machine.STAGE2, ...ste });
    m.map2(BigInt(CD_TABLE), CD_TABLE, {}, { level: 2 });
    if (page) m.map2(BigInt(S1_ROOT), page[0], page[1]);
    expect(m.translate(VA, EXEC)).toBe(FAULT);
    expect(m.events()).toMatchObject([expected]);
  });

  it("is without an access flag no fault where the STE says so (S2AFFD)", () => {
    const m = machine();
    m.stage2(0, { S2AFFD: true });
    m.map2(VA, DATA, { AF: false });
    expect(m.translate(VA)).toBe(TranslationStatus.OK);
    m.stage2(1, { S2AFFD: false });
    m.flush();
    expect(m.translate(VA, READ, 1)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_ACCESS", StreamID: 1, S2: true, Class: "IN", IPA: 0x1000 }]);
  });
});

describe("an access that reads and writes (13.1.1)", () => {
  const both = READ | WRITE;

  it.each([
    ["a page that may be written only", { S2AP: "writeOnly" }, {}, true],
    ["a page that is clean and may not be read", { S2AP: "none", DBM: true }, { S2HA: true, S2HD: true }, true],
    ["a page that may be read only", { S2AP: "readOnly" }, {}, false],
    ["a page that may be neither", { S2AP: "none" }, {}, false],
  ])("is recorded with RnW of what the page withholds, writing first: %s", (_, page, ste, RnW) => {
    const m = machine();
    m.stage2(0, ste);
    const entry = m.map2(VA, DATA, page);
    const before = m.memory.load64(entry);
    expect(m.translate(VA, both)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_PERMISSION", S2: true, Class: "IN", RnW, InD: false, IPA: 0x1000 }]);
    expect(m.memory.load64(entry)).toBe(before);
  });

  it("is recorded alike from the TLB, stage 2 alone and nested", () => {
    const m = machine();
    m.stage1(0, { Config: "nested", ...Machine.STAGE2 });
    m.stage2(1);
    for (const table of [CD_TABLE, S1_ROOT, RAM + 0x60_0000]) m.map2(BigInt(table), table, {}, { level: 2 });
    m.map2(VA, DATA, { S2AP: "writeOnly" });
    m.map(VA, Number(VA));
    for (const sid of [0, 1]) {
      expect(m.translate(VA, WRITE, sid)).toBe(TranslationStatus.OK);
      expect(m.translate(VA, both, sid)).toBe(FAULT);
      expect(m.translate(VA, READ, sid)).toBe(FAULT);
    }
    expect(m.events().map(({ ID, RnW }) => [ID, RnW])).toEqual(new Array(4).fill(["F_PERMISSION", true]));
  });

  it("is a write in every other record, that of a table which may not be read as well", () => {
    const m = machine();
    m.stage1(0, { Config: "nested", ...Machine.STAGE2 });
    m.map2(BigInt(CD_TABLE), CD_TABLE, {}, { level: 2 });
    m.map2(BigInt(S1_ROOT), S1_ROOT, { S2AP: "writeOnly" });
    expect(m.translate(VA, both)).toBe(FAULT);
    m.stage2(1);
    expect(m.translate(0x9000n, both, 1)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      { ID: "F_PERMISSION", Class: "TT", RnW: false, TTRnW: true },
      { ID: "F_TRANSLATION", Class: "IN", RnW: false },
    ]);
  });
});

describe("F_WALK_EABT (7.3.12)", () => {
  it("says whose walk aborted", () => {
    const m = stalling({ S: false });
    m.memory.store64(S1_ROOT, HOLE / 2 ** 32, 3);
    expect(m.translate(VA, EXEC | PRIV, SID, SSID)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      {
        ID: "F_WALK_EABT",
        SSV: true,
        SubstreamID: SSID,
        StreamID: SID,
        PnU: true,
        InD: true,
        RnW: true,
        S2: false,
        FetchAddr: HOLE,
      },
    ]);
  });

  it("says that stage 2's own walk aborted, and what for", () => {
    const m = machine();
    m.stage1(0, { Config: "nested", ...Machine.STAGE2 });
    m.map2(BigInt(CD_TABLE), CD_TABLE, {}, { level: 2 });
    // The level 1 entry of the CDs' gigabyte is kept; the walk for the next one leads nowhere.
    m.cd({ TTB0: 0x8000_0000 });
    m.memory.store64(RAM + 0x50_0000 + 16, HOLE / 2 ** 32, 3);
    expect(m.translate(VA, WRITE)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_WALK_EABT", S2: true, Class: "TT", TTRnW: true, RnW: false }]);
  });
});

describe("configuration errors", () => {
  it("name the substream: C_BAD_STREAMID and F_STE_FETCH (7.3.3, 7.3.4)", () => {
    const m = machine();
    m.translate(VA, READ, 300, SSID);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_STREAMID", StreamID: 300, SSV: true, SubstreamID: SSID }]);
    const nowhere = new Machine();
    nowhere.start({ SMMUEN: false });
    nowhere.set(s.STRTAB_BASE, { ADDR: HOLE });
    nowhere.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    nowhere.translate(VA, READ, 2, SSID);
    expect(nowhere.events()).toMatchObject([{ ID: "F_STE_FETCH", StreamID: 2, SSV: true, SubstreamID: SSID }]);
  });

  it("have no bits of FetchAddr beyond the output size (7.3.4)", () => {
    const m = new Machine("mmu-700-like");
    m.start({ SMMUEN: false });
    m.set(s.STRTAB_BASE, { ADDR: 2 ** 50 + HOLE });
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    m.translate(VA, READ, 2);
    expect(m.events()).toMatchObject([{ ID: "F_STE_FETCH", FetchAddr: HOLE + 2 * 64 }]);
  });

  it("name the stream: F_CD_FETCH (7.3.10)", () => {
    const m = machine();
    m.ste(9, { Config: "s1", S1ContextPtr: HOLE });
    m.translate(VA, READ, 9);
    expect(m.events()).toMatchObject([{ ID: "F_CD_FETCH", StreamID: 9, SSV: false, FetchAddr: HOLE }]);
  });

  it("name substream and span of a refused translation request: F_BAD_ATS_TREQ (7.3.6)", () => {
    const m = machine();
    m.ste(SID, { Config: "s1", S1ContextPtr: CD_TABLE, S1CDMax: 3 });
    expect(m.ats(VA, READ | EXEC | PRIV, SID, SSID)).toBe(AtsStatus.UR);
    expect(m.events()).toMatchObject([
      { ID: "F_BAD_ATS_TREQ", StreamID: SID, SSV: true, SubstreamID: SSID, Span: 1, X: true, PRIV: true, W: false },
    ]);
  });
});
