import { Access, AtsStatus, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, HOLE, Machine, machine, RAM, S1_ROOT, S2_ROOT, variant } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const { SUCCESS, UR, CA } = AtsStatus;
const { READ, WRITE, EXEC, PRIV, TRANSLATED } = Access;
const VA = 0x1000n;

function atsMachine(ste: Fields = {}, leaf: Fields = {}, cr0: Fields = {}, cr2: Fields = { RECINVSID: true }): Machine {
  const m = new Machine().start(cr0, cr2);
  m.stage1(0, { EATS: "full", ...ste });
  m.map(VA, DATA, leaf);
  return m;
}

const granted = ({ completion: { read, write, execute } }: Machine) => ({ read, write, execute });

describe("translation request (3.9.1.2, G35)", () => {
  it("answers the page with what is permitted of what was asked (13.7)", () => {
    const m = atsMachine();
    expect(m.ats(VA + 0x123n, READ | WRITE)).toBe(SUCCESS);
    expect([m.completionPa, m.completion.shift, granted(m)]).toEqual([
      DATA,
      12,
      { read: true, write: true, execute: false },
    ]);
  });

  it("grants no write without asking: NW = 1 (13.7)", () => {
    const m = atsMachine();
    m.ats(VA, READ);
    expect(granted(m)).toEqual({ read: true, write: false, execute: false });
  });

  it("grants a read-only page for reading although a write was asked for too", () => {
    const m = atsMachine({}, { AP: "readOnly" });
    expect(m.ats(VA, READ | WRITE)).toBe(SUCCESS);
    expect(granted(m)).toEqual({ read: true, write: false, execute: false });
    expect(m.events()).toEqual([]);
  });

  it("grants execution only with a PASID, where the page is readable and executable (13.7)", () => {
    const m = atsMachine({ S1CDMax: 1, S1DSS: "ssid0" });
    m.cd({}, 1);
    m.map(VA + 0x1000n, DATA, { UXN: true });
    m.ats(VA, READ | EXEC, 0, 1);
    expect(granted(m)).toEqual({ read: true, write: false, execute: true });
    m.ats(VA + 0x1000n, READ | EXEC, 0, 1);
    expect(granted(m)).toEqual({ read: true, write: false, execute: false });
    m.ats(VA, READ | EXEC);
    expect(granted(m)).toEqual({ read: true, write: false, execute: false });
  });

  it("answers for the privilege of the request, which a PASID carries (13.7)", () => {
    const m = atsMachine({ S1CDMax: 1, S1DSS: "ssid0" }, { AP: "el1ReadWrite" });
    m.cd({}, 1);
    m.ats(VA, READ | PRIV, 0, 1);
    expect([granted(m).read, m.completion.privileged]).toEqual([true, true]);
    m.ats(VA, READ, 0, 1);
    expect([granted(m).read, m.completion.privileged]).toEqual([false, false]);
  });

  it("withholds from privileged reads and writes what PAN withholds (5.4)", () => {
    const m = atsMachine({ S1CDMax: 1, S1DSS: "ssid0" });
    m.cd({ PAN: true }, 1);
    m.ats(VA, READ | WRITE | PRIV, 0, 1);
    expect(granted(m)).toEqual({ read: false, write: false, execute: false });
  });

  it.each<[string, Fields, Fields, object]>([
    [
      "INSTCFG = instruction makes it a fetch: R tells of execution",
      { INSTCFG: "instruction" },
      { UXN: true },
      { read: false },
    ],
    ["INSTCFG = data lets a readable page execute", { INSTCFG: "data" }, { UXN: true }, { read: true, execute: true }],
    ["PRIVCFG = privileged", { PRIVCFG: "privileged" }, { AP: "el1ReadWrite" }, { read: true }],
  ])("applies the stream's overrides: %s (13.7.1)", (_, ste, leaf, expected) => {
    const m = atsMachine({ S1CDMax: 1, S1DSS: "ssid0", ...ste }, leaf);
    m.cd({}, 1);
    m.ats(VA, READ | EXEC, 0, 1);
    expect(granted(m)).toMatchObject(expected);
  });

  it("answers a block with its size", () => {
    const m = atsMachine();
    m.map(0x4000_0000n, RAM, {}, { level: 2 });
    m.ats(0x4012_3000n);
    expect([m.completion.shift, m.completionPa]).toEqual([21, RAM + 0x12_3000]);
  });

  it.each<[string, Fields]>([
    ["nothing mapped", { Type: "invalid" }],
    ["no access flag", { AF: false }],
    ["no permission", { AP: "el1ReadOnly" }],
    ["an address beyond IPS", { OutputAddress: 2n ** 47n }],
  ])("answers R = W = 0 and records nothing for %s (3.9.1.2)", (_, leaf) => {
    const m = atsMachine({}, leaf);
    if ("OutputAddress" in leaf) m.cd({ IPS: 4 });
    expect(m.ats(VA, READ | WRITE)).toBe(SUCCESS);
    expect([granted(m), m.events()]).toEqual([{ read: false, write: false, execute: false }, []]);
  });

  it("permits reading and writing 1:1 where stage 1 is skipped and there is no stage 2 (13.6.4)", () => {
    const m = atsMachine({ S1CDMax: 1, S1DSS: "bypass" });
    expect(m.ats(0x5_1234_5678n, READ | EXEC)).toBe(SUCCESS);
    expect([m.completionPa, m.completion.shift, granted(m)]).toEqual([
      0x5_1234_5000,
      52,
      { read: true, write: true, execute: false },
    ]);
  });

  it("does not translate at stage 2 what stage 1 grants nothing of (3.9.1.2)", () => {
    const m = new Machine().start();
    m.stage1(0, { Config: "nested", ...Machine.STAGE2, EATS: "full" });
    for (const page of [CD_TABLE, S1_ROOT, RAM + 0x60_0000]) m.map2(BigInt(page), page, {}, { level: 2 });
    m.put(s.TABLE_DESCRIPTOR, S2_ROOT + 8 * 8, { Type: "tableOrPage", NextLevelTable: HOLE });
    // The IPA's stage 2 table is not in memory: whoever translates it gets an external abort.
    const beyond = 8 * 2 ** 30;
    m.map(VA, beyond, { AP: "el1ReadWrite" });
    expect([m.ats(VA, READ | WRITE), granted(m)]).toEqual([SUCCESS, { read: false, write: false, execute: false }]);
    m.map(VA + 0x1000n, beyond);
    expect(m.ats(VA + 0x1000n)).toBe(CA);
  });

  it("updates the access flag, and dirty state only for NW = 0 (3.13.7)", () => {
    const m = atsMachine({}, { AF: false, AP: "readOnly", DBM: true });
    m.cd({ HA: true, HD: true });
    m.ats(VA, READ);
    expect(granted(m)).toMatchObject({ read: true, write: false });
    m.ats(VA, READ | WRITE);
    expect(granted(m)).toMatchObject({ read: true, write: true });
    expect(m.translate(VA, WRITE)).toBe(OK);
  });

  it("leaves the dirty state of a page that PAN withholds (5.4, 3.13)", () => {
    const m = atsMachine({ S1CDMax: 1, S1DSS: "ssid0" });
    m.cd({ HA: true, HD: true, PAN: true }, 1);
    const entry = m.map(VA, DATA, { AP: "readOnly", DBM: true });
    const before = m.memory.load64(entry);
    expect(m.ats(VA, READ | WRITE | PRIV, 0, 1)).toBe(SUCCESS);
    expect([granted(m).write, m.memory.load64(entry)]).toEqual([false, before]);
  });

  it("never stalls, even with CD.S (3.12)", () => {
    const m = atsMachine();
    m.cd({ S: true });
    expect(m.ats(0x9000n)).toBe(SUCCESS);
    expect(m.events()).toEqual([]);
  });

  it.each<[string, Fields, Fields]>([
    ["EATS = 0", { EATS: "abort" }, {}],
    ["a stream that bypasses", { Config: "bypass" }, {}],
    ["split-stage EATS without ATSCHK (5.2)", { Config: "nested", ...Machine.STAGE2, EATS: "s1check" }, {}],
    ["SMMUEN = 0", {}, { SMMUEN: false }],
  ])("is Unsupported Request, with F_BAD_ATS_TREQ, for %s (7.3.6)", (_, ste, cr0) => {
    const m = atsMachine(ste, {}, cr0);
    expect(m.ats(VA, READ | WRITE)).toBe(UR);
    expect(m.events()).toMatchObject([
      { ID: "F_BAD_ATS_TREQ", StreamID: 0, R: true, W: true, X: false, PRIV: false, InputAddr: VA },
    ]);
  });

  it("is Unsupported Request without a record for a stream that aborts, and for a chip without ATS", () => {
    const m = atsMachine({ Config: "abort" });
    expect([m.ats(VA), m.events()]).toEqual([UR, []]);
    const plain = machine("qemu-11-virt");
    plain.stage1();
    expect([plain.ats(VA), plain.events()]).toEqual([UR, []]);
  });

  it.each<[string, (m: Machine) => void, string]>([
    ["an invalid STE", (m) => m.ste(0, { V: false }), "C_BAD_STE"],
    ["an invalid CD", (m) => m.put(s.CD, CD_TABLE, {}), "C_BAD_CD"],
    ["a CD that is not in memory", (m) => m.ste(0, { Config: "s1", EATS: "full", S1ContextPtr: HOLE }), "F_CD_FETCH"],
    ["a table that is not in memory", (m) => m.memory.store64(S1_ROOT, HOLE / 2 ** 32, 3), "F_WALK_EABT"],
  ])("is Completer Abort for %s, recorded only with CR2.REC_CFG_ATS (6.3.12)", (_, spoil, ID) => {
    for (const REC_CFG_ATS of [false, true]) {
      const m = atsMachine({}, {}, {}, { RECINVSID: true, REC_CFG_ATS });
      spoil(m);
      expect(m.ats(VA)).toBe(CA);
      expect(m.events()).toMatchObject(REC_CFG_ATS ? [{ ID }] : []);
    }
  });

  it("is recorded with the stream's overrides, like a transaction (3.9.1.2, 7.3.12)", () => {
    const fields = { Config: "nested", ...Machine.STAGE2, PRIVCFG: "privileged", INSTCFG: "instruction" };
    const m = atsMachine(fields, {}, {}, { REC_CFG_ATS: true });
    m.memory.store64(S2_ROOT + 8, HOLE / 2 ** 32, 3);
    expect(m.ats(VA)).toBe(CA);
    m.ste(0, { ...fields, Config: "s1", EATS: "full", S1ContextPtr: CD_TABLE });
    m.memory.store64(S1_ROOT, HOLE / 2 ** 32, 3);
    m.flush();
    expect(m.ats(VA)).toBe(CA);
    expect(m.events()).toMatchObject([
      { ID: "F_WALK_EABT", S2: true, Class: "CD", PnU: true, InD: true },
      { ID: "F_WALK_EABT", S2: false, Class: "TT", PnU: true, InD: true },
    ]);
  });

  it.each([
    [12, {}],
    [14, { GRAN4K: false }],
    [16, { GRAN4K: false, GRAN16K: false }],
  ])("without access is for 2^%i bytes, the smallest granule of the chip (3.9.1.2)", (shift, idr5) => {
    const m = machine(variant("everything", { idr5 }));
    m.stage1(0, { EATS: "full" }, { TG0: "granule64K" });
    expect(m.ats(0x9000n)).toBe(SUCCESS);
    expect(m.completion).toMatchObject({ read: false, write: false, shift });
  });

  it("shows in the trace what was answered", () => {
    const m = atsMachine();
    const records = m.traced(() => {
      m.ats(VA, READ | WRITE);
      m.ats(VA, READ, 9);
    });
    expect(records.filter(({ name }) => name === "ats:completed")).toMatchObject([
      { status: "SUCCESS", size: 4096, access: READ | WRITE, address: VA },
      { status: "CA" },
    ]);
  });
});

describe("split-stage ATS, EATS = 0b10 (13.6.3, G35)", () => {
  function split(cr0: Fields = { ATSCHK: true }): Machine {
    const m = new Machine().start(cr0);
    m.stage1(0, { Config: "nested", ...Machine.STAGE2, EATS: "s1check" });
    // Everything of the tables maps to itself; the data does not.
    for (const page of [CD_TABLE, S1_ROOT]) m.map2(BigInt(page), page, {}, { level: 2 });
    m.map2(BigInt(RAM + 0x60_0000), RAM + 0x60_0000, {}, { level: 2 });
    m.map2(0x5000n, DATA, { S2AP: "readOnly" });
    m.map(VA, 0x5000);
    return m;
  }

  it("answers the IPA of stage 1, with the permissions of both stages", () => {
    const m = split();
    expect(m.ats(VA, READ | WRITE)).toBe(SUCCESS);
    expect([m.completionPa, granted(m)]).toEqual([0x5000, { read: true, write: false, execute: false }]);
  });

  it("translates what the device sends then through stage 2, and records its faults", () => {
    const m = split();
    expect(m.translate(0x5008n, READ | TRANSLATED)).toBe(OK);
    expect(m.pa).toBe(DATA + 8);
    expect(m.translate(0x5008n, WRITE | TRANSLATED)).toBe(FAULT);
    expect(m.translate(0x9000n, READ | TRANSLATED)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      { ID: "F_PERMISSION", S2: true, IPA: 0x5000, InD: false },
      { ID: "F_TRANSLATION", S2: true, IPA: 0x9000 },
    ]);
  });

  it("checks the address against the IAS as stage 1: always recorded, aborted without a CD's say (3.9.1.3, 3.4)", () => {
    const m = split();
    m.cd({ A: false, R: false });
    m.translate(VA);
    expect(m.translate(1n << 52n, READ | TRANSLATED)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_ADDR_SIZE", S2: false, InputAddr: 1n << 52n }]);
  });

  it("is as EATS = 0 without ATSCHK: requests are refused, and translated transactions not checked (5.2)", () => {
    const m = split({ ATSCHK: false });
    expect(m.ats(VA)).toBe(UR);
    expect(m.translate(BigInt(DATA), READ | TRANSLATED)).toBe(OK);
  });
});

describe("translated transaction (3.9.1.3, G35)", () => {
  it("passes untouched without ATSCHK, up to the output size", () => {
    const m = machine();
    expect(m.translate(BigInt(DATA) + 5n, WRITE | TRANSLATED)).toBe(OK);
    expect(m.pa).toBe(DATA + 5);
    expect(m.translate(1n << 52n, READ | TRANSLATED)).toBe(FAULT);
    expect(m.events()).toEqual([]);
  });

  it("passes with ATSCHK where EATS is 0b01", () => {
    const m = atsMachine({}, {}, { ATSCHK: true });
    expect(m.translate(BigInt(DATA), WRITE | TRANSLATED)).toBe(OK);
    expect(m.pa).toBe(DATA);
  });

  it.each<[string, Fields, Fields]>([
    ["EATS = 0", { EATS: "abort" }, { ATSCHK: true }],
    ["a stream that bypasses", { Config: "bypass" }, { ATSCHK: true }],
    ["SMMUEN = 0", {}, { SMMUEN: false }],
  ])("is F_TRANSL_FORBIDDEN for %s (7.3.8)", (_, ste, cr0) => {
    const m = atsMachine(ste, {}, cr0);
    expect(m.translate(BigInt(DATA), WRITE | TRANSLATED)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSL_FORBIDDEN", StreamID: 0, RnW: false, InputAddr: BigInt(DATA) }]);
  });

  it("counts as without a SubstreamID, as data and unprivileged (3.9.1.3: IDR3.PASIDTT = 0)", () => {
    const m = atsMachine({ V: false }, {}, { ATSCHK: true }, { REC_CFG_ATS: true });
    expect(m.translate(VA, READ | EXEC | PRIV | TRANSLATED, 0, 5)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_STE", SSV: false, SubstreamID: 0 }]);
  });

  it("records C_BAD_STREAMID with REC_CFG_ATS whatever RECINVSID says, unlike a request (3.9.1.2, 3.9.1.3)", () => {
    const m = atsMachine({}, {}, { ATSCHK: true }, { REC_CFG_ATS: true });
    expect([m.ats(VA, READ, 300), m.events()]).toEqual([CA, []]);
    expect(m.translate(VA, READ | TRANSLATED, 300)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_STREAMID", StreamID: 300 }]);
  });

  it("is F_TRANSL_FORBIDDEN on a chip without ATS", () => {
    const m = machine("qemu-11-virt");
    expect(m.translate(BigInt(DATA), READ | TRANSLATED)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSL_FORBIDDEN" }]);
  });

  it("aborts silently with ATSCHK where the stream aborts or its STE is bad, the latter recorded with REC_CFG_ATS", () => {
    const aborted = atsMachine({ Config: "abort" }, {}, { ATSCHK: true });
    expect([aborted.translate(VA, READ | TRANSLATED), aborted.events()]).toEqual([FAULT, []]);
    for (const REC_CFG_ATS of [false, true]) {
      const m = atsMachine({ V: false }, {}, { ATSCHK: true }, { REC_CFG_ATS });
      expect(m.translate(VA, READ | TRANSLATED)).toBe(FAULT);
      expect(m.events()).toMatchObject(REC_CFG_ATS ? [{ ID: "C_BAD_STE" }] : []);
    }
  });
});

describe("CMD_ATC_INV (4.5.1, 3.9.1.4, G26)", () => {
  const atcInv = (values: Fields): [typeof s.CMD_ATC_INV, Fields] => [
    s.CMD_ATC_INV,
    { Opcode: "ATC_INV", StreamID: 2, ...values },
  ];
  const cons = (m: Machine) => m.chip.read32(s.CMDQ_CONS.offset) & 0xfffff;

  it("asks the function to drop an aligned range of a PASID, or of all, or of none", () => {
    const m = machine();
    const device = m.endpoint(2);
    m.command(
      atcInv({ Size: 0, Address: 0x1234_5000 }),
      atcInv({ Size: 3, Address: 0x1234_5000, SSV: true, SubstreamID: 7 }),
      atcInv({ Size: 52, SSV: true, SubstreamID: 7, Global: true }),
      atcInv({ Size: 0, Global: true }),
    );
    expect(device.invalidations).toMatchObject([
      { rid: 2, pasid: -1, hi: 0, lo: 0x1234_5000, shift: 12, global: false },
      { pasid: 7, lo: 0x1234_0000, shift: 15, global: false },
      { pasid: 7, hi: 0, lo: 0, shift: 64, global: true },
      // G without a PASID means nothing.
      { pasid: -1, shift: 12, global: false },
    ]);
    expect(cons(m)).toBe(5);
  });

  it("is consumed at once; CMD_SYNC waits for the completion", () => {
    const m = machine();
    const device = m.endpoint(2);
    device.completes = false;
    m.command(atcInv({}));
    expect(cons(m)).toBe(1);
    device.complete(device.invalidations[0].itag);
    expect(cons(m)).toBe(2);
  });

  it("counts as many completions as the first one announces, 0 for 8 (PCIe 10.3.2)", () => {
    const m = machine();
    const device = m.endpoint(2);
    device.completes = false;
    m.command(atcInv({}));
    for (let i = 0; i < 7; i++) device.complete(0, 0);
    expect(cons(m)).toBe(1);
    device.complete(0, 0);
    expect(cons(m)).toBe(2);
  });

  it("waits for a tag of the 32 that a function has", () => {
    const m = new Machine();
    const device = m.endpoint(2);
    device.completes = false;
    m.set(s.CMDQ_BASE, { ADDR: RAM, LOG2SIZE: 6 });
    m.set(s.CR0, { SMMUEN: true, CMDQEN: true });
    const words = s.CMD_ATC_INV.encode({ Opcode: "ATC_INV", StreamID: 2 });
    for (let at = 0; at < 33; at++)
      for (const [i, word] of words.entries()) m.memory.store32(RAM + at * 16 + i * 4, word);
    m.chip.write32(s.CMDQ_PROD.offset, 33);
    expect([cons(m), device.invalidations.length]).toEqual([32, 32]);
    device.complete(5);
    expect([cons(m), device.invalidations.at(-1)?.itag]).toEqual([33, 5]);
  });

  it("ignores completions of tags that are not in flight", () => {
    const m = machine();
    const device = m.endpoint(2);
    device.completes = false;
    m.command(atcInv({}));
    device.complete(9);
    m.chip.invalidateCompletion({ rid: 77, itagVector: -1, count: 1 });
    expect(cons(m)).toBe(1);
  });

  it("ends in CERROR_ATC_INV_SYNC at the CMD_SYNC when nobody answers for a minute and a half (7.1, G29)", async () => {
    const m = machine();
    m.command(atcInv({}));
    expect(cons(m)).toBe(1);
    await m.scheduler.run(() => m.scheduler.sleep(91e9));
    expect([cons(m), s.CMDQ_CONS.ERR.get(Int32Array.of(m.chip.read32(s.CMDQ_CONS.offset)))]).toEqual([1, 3]);
    // The same CMD_SYNC succeeds once the error is acknowledged: what timed out has been reported.
    m.chip.write32(s.GERRORN.offset, m.chip.read32(s.GERROR.offset));
    expect(cons(m)).toBe(2);
  });

  it("sends nothing while SMMUEN is 0", () => {
    const m = new Machine().start({ SMMUEN: false });
    const device = m.endpoint(2);
    m.command(atcInv({}));
    expect([device.invalidations, cons(m)]).toEqual([[], 2]);
  });
});
