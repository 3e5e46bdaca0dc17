import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, type Fields, HOLE, Machine, machine, RAM } from "./machine.js";

const { FAULT } = TranslationStatus;
const VA = 0x1000n;
const EVENTS = RAM + 0x31_0000;
const OVFLG = 0x8000_0000;

const read = (m: Machine, register: { offset: number }) => m.chip.read32(register.offset);
const active = (m: Machine) => s.GERROR.decode(Int32Array.of(read(m, s.GERROR) ^ read(m, s.GERRORN)));

/** Stream 0 has nothing mapped: every access is F_TRANSLATION. */
function faulting(ste: Fields = {}, cd: Fields = {}): Machine {
  const m = machine();
  m.stage1(0, ste, cd);
  return m;
}

function fault(m: Machine, count: number): void {
  for (let i = 0; i < count; i++) expect(m.translate(VA + BigInt(i) * 4096n)).toBe(FAULT);
}

describe("event queue (7.2, G8, G32)", () => {
  it("writes records in order and moves PROD", () => {
    const m = faulting();
    fault(m, 2);
    expect(read(m, s.EVENTQ_PROD)).toBe(2);
    expect(m.events()).toMatchObject([{ InputAddr: VA }, { InputAddr: VA + 4096n }]);
  });

  it("sets the overflow flag once when it is full, and loses what comes until there is room (7.4)", () => {
    const m = faulting();
    fault(m, 18);
    expect(read(m, s.EVENTQ_PROD)).toBe((16 | OVFLG) >>> 0);
    expect(m.events()).toHaveLength(16);
    // Acknowledged together with the index.
    expect(read(m, s.EVENTQ_CONS)).toBe((16 | OVFLG) >>> 0);
    fault(m, 1);
    expect([read(m, s.EVENTQ_PROD), m.events().length]).toEqual([(17 | OVFLG) >>> 0, 1]);
  });

  it("toggles the flag back at the next overflow, but not before the first is acknowledged (7.4)", () => {
    const m = faulting();
    fault(m, 17);
    // Room without OVACKFLG: records are written again, and a second overflow is not a new one.
    m.chip.write32(s.EVENTQ_CONS.offset, 1);
    fault(m, 2);
    expect(read(m, s.EVENTQ_PROD)).toBe((17 | OVFLG) >>> 0);
    m.chip.write32(s.EVENTQ_CONS.offset, (1 | OVFLG) >>> 0);
    fault(m, 1);
    expect(read(m, s.EVENTQ_PROD)).toBe(17);
  });

  it("records nothing, and overflows not, while EVENTQEN is 0 (7.2)", () => {
    const m = new Machine().start({ EVENTQEN: false });
    m.stage1();
    fault(m, 17);
    expect(read(m, s.EVENTQ_PROD)).toBe(0);
  });

  it("raises EVENTQ_ABT_ERR when a write aborts, and writes again after the acknowledgement (7.2.2)", () => {
    const m = new Machine().start({ EVENTQEN: false });
    m.set(s.EVENTQ_BASE, { ADDR: HOLE, LOG2SIZE: 4 });
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    m.stage1();
    fault(m, 2);
    expect(active(m)).toMatchObject({ EVENTQ_ABT_ERR: true });
    expect(read(m, s.EVENTQ_PROD)).toBe(0);
    m.set(s.CR0, { SMMUEN: true });
    m.set(s.EVENTQ_BASE, { ADDR: EVENTS, LOG2SIZE: 4 });
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    fault(m, 1);
    expect(read(m, s.EVENTQ_PROD)).toBe(0);
    m.chip.write32(s.GERRORN.offset, read(m, s.GERROR));
    fault(m, 1);
    expect(m.events()).toHaveLength(1);
  });

  it("is used up to EVENTQS entries whatever LOG2SIZE says (6.3.29)", () => {
    const m = new Machine({ ...s.PRESETS.everything, idr1: (s.PRESETS.everything.idr1 & ~(31 << 16)) | (2 << 16) });
    m.start({ EVENTQEN: false });
    m.set(s.EVENTQ_BASE, { ADDR: EVENTS, LOG2SIZE: 10 });
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    m.stage1();
    fault(m, 5);
    expect(read(m, s.EVENTQ_PROD)).toBe((4 | OVFLG) >>> 0);
  });

  it("interrupts when it was empty, by wire and by message (3.18, G6)", () => {
    const m = new Machine();
    m.set(s.EVENTQ_IRQ_CFG0, { ADDR: 0x800_0040 });
    m.chip.write32(s.EVENTQ_IRQ_CFG1.offset, 0x55);
    m.start();
    m.stage1();
    fault(m, 2);
    expect([m.wires, m.messages]).toEqual([["eventq"], [{ address: 0x800_0040, data: 0x55 }]]);
    m.events();
    fault(m, 1);
    expect(m.wires).toEqual(["eventq", "eventq"]);
  });

  it("raises MSI_EVENTQ_ABT_ERR when the message aborts (7.5)", () => {
    const m = new Machine();
    m.set(s.EVENTQ_IRQ_CFG0, { ADDR: 0xff00_0000 });
    m.start();
    m.stage1();
    fault(m, 1);
    expect(active(m)).toMatchObject({ MSI_EVENTQ_ABT_ERR: true });
    expect(m.wires).toEqual(["eventq", "gerror"]);
  });

  it("raises MSI_GERROR_ABT_ERR when that message aborts, and tries no other (7.5)", () => {
    const m = new Machine();
    m.set(s.GERROR_IRQ_CFG0, { ADDR: 0xff00_0000 });
    m.start();
    m.submit(Int32Array.of(0xff, 0, 0, 0));
    expect(active(m)).toMatchObject({ CMDQ_ERR: true, MSI_GERROR_ABT_ERR: true });
    expect(m.wires).toEqual(["gerror"]);
  });

  it("keeps quiet where IRQ_CTRL disables the interrupt (6.3.16)", () => {
    const m = faulting();
    m.chip.write32(s.IRQ_CTRL.offset, 0);
    fault(m, 1);
    expect([m.wires, m.events().length]).toEqual([[], 1]);
  });
});

describe("STE.MEV (7.3.1, G32)", () => {
  it("merges records that are alike but for the page offset, until software has read them", () => {
    const m = faulting({ MEV: true });
    const ask = (address: bigint, access: number = Access.READ) => m.translate(address, access);
    ask(VA);
    ask(VA + 8n);
    ask(VA, Access.WRITE);
    ask(VA, Access.WRITE);
    ask(VA + 0x1000n, Access.WRITE);
    expect(m.events()).toMatchObject([
      { RnW: true, InputAddr: VA },
      { RnW: false, InputAddr: VA },
      { RnW: false, InputAddr: VA + 0x1000n },
    ]);
    ask(VA + 0x1000n, Access.WRITE);
    expect(m.events()).toHaveLength(1);
  });

  it("merges nothing when 0", () => {
    const m = faulting({ MEV: false });
    m.translate(VA);
    m.translate(VA);
    expect(m.events()).toHaveLength(2);
  });

  it("says in the trace what was not written and why", () => {
    const m = faulting({ MEV: true });
    const records = m.traced(() => {
      m.translate(VA);
      m.translate(VA);
    });
    expect(records.filter(({ name }) => name === "fault:dropped")).toMatchObject([
      { fault: "F_TRANSLATION", reason: "merged with the record before it" },
    ]);
  });
});

describe("what a record holds (7.3, G30, G31)", () => {
  const substreams = { S1CDMax: 2, S1DSS: "terminate" } as const;

  it("names the substream of the transaction, also in configuration errors", () => {
    const m = machine();
    m.stage1(0, substreams);
    m.cd({}, 1);
    m.put(s.CD, CD_TABLE + 2 * 64, {});
    m.translate(VA, Access.READ, 0, 1);
    m.translate(VA, Access.READ, 0, 2);
    m.translate(VA, Access.READ, 0, 7);
    m.translate(VA);
    expect(m.events()).toMatchObject([
      { ID: "F_TRANSLATION", SSV: true, SubstreamID: 1, StreamID: 0 },
      { ID: "C_BAD_CD", SSV: true, SubstreamID: 2 },
      { ID: "C_BAD_SUBSTREAMID", SubstreamID: 7 },
      { ID: "F_STREAM_DISABLED", StreamID: 0 },
    ]);
  });

  it("lies where the aligned base says: lower bits of EVENTQ_BASE.ADDR do not count (6.3.26)", () => {
    const m = new Machine().start({ EVENTQEN: false });
    m.set(s.EVENTQ_BASE, { ADDR: EVENTS + 0xe0, LOG2SIZE: 4 });
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true, CMDQEN: true });
    m.translate(VA, Access.READ, 3);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_STE", StreamID: 3 }]);
  });

  it("has the whole input address, its top byte included (7.3.13)", () => {
    const m = faulting({}, { TBI: 1 });
    m.translate(0xab00_0000_0000_1234n);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION", InputAddr: 0xab00_0000_0000_1234n }]);
  });

  it("has the IPA without its page offset (7.3.13)", () => {
    const m = machine();
    m.stage2();
    m.translate(0x1234_5678n, Access.WRITE);
    expect(m.events()).toMatchObject([
      { ID: "F_TRANSLATION", S2: true, RnW: false, InputAddr: 0x1234_5678n, IPA: 0x1234_5000 },
    ]);
  });
});
