import { PrgResponseCode } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { type Fields, HOLE, Machine, machine, variant } from "./machine.js";

const { SUCCESS, INVALID_REQUEST, RESPONSE_FAILURE } = PrgResponseCode;
const OVFLG = 0x8000_0000;

const read = (m: Machine, register: { offset: number }) => m.chip.read32(register.offset);
const active = (m: Machine) => s.GERROR.decode(Int32Array.of(read(m, s.GERROR) ^ read(m, s.GERRORN)));

/** Four requests that fill the queue; whatever comes next does not fit. */
function full(preset: s.Smmuv3PresetName | s.Smmuv3Preset = "everything", cr2: Fields = {}): Machine {
  const m = new Machine(preset).start({}, cr2);
  m.stage1(0, { PPAR: true });
  for (let prgi = 1; prgi <= 4; prgi++) m.pageRequest({ rid: 0, prgi, last: false });
  return m;
}

describe("page request queue (8.1, G34)", () => {
  it("takes every field of the message", () => {
    const m = machine();
    m.pageRequest({
      rid: 0x21,
      pasid: 0x12345,
      hi: 0x12,
      lo: 0x3456_7000,
      read: true,
      write: true,
      execute: true,
      privileged: true,
      last: false,
      prgi: 0x155,
    });
    m.pageRequest({ rid: 0x22, write: false, prgi: 1 });
    expect(m.pageRequests()).toMatchObject([
      {
        StreamID: 0x21,
        SSV: true,
        SubstreamID: 0x12345,
        R: true,
        W: true,
        X: true,
        Priv: true,
        Last: false,
        PRGIndex: 0x155,
        PageAddress: 0x12_3456_7000n,
      },
      { StreamID: 0x22, SSV: false, SubstreamID: 0, R: true, W: false, X: false, Priv: false, Last: true, PRGIndex: 1 },
    ]);
  });

  it("interrupts when it was empty, or for each last request with LO (6.3.36)", () => {
    const m = machine();
    for (const last of [true, true, false]) m.pageRequest({ rid: 0, last });
    expect(m.wires).toEqual(["priq"]);
    const onLast = new Machine();
    onLast.set(s.PRIQ_IRQ_CFG2, { LO: true });
    onLast.start();
    for (const last of [false, true, true]) onLast.pageRequest({ rid: 0, last });
    expect(onLast.wires).toEqual(["priq", "priq"]);
    for (const last of [true, false, true]) onLast.pageRequest({ rid: 0, last });
    // The fourth entry fills the queue. A last one that is lost is told as well.
    expect(onLast.wires).toEqual(["priq", "priq", "priq", "priq"]);
    onLast.set(s.CR0, { SMMUEN: true });
    onLast.pageRequest({ rid: 0, last: true });
    expect(onLast.wires.length).toBe(4);
  });

  it("keeps stop markers like other requests, and lets software see them (8.1)", () => {
    const m = machine();
    m.pageRequest({ rid: 0, pasid: 5, read: false, last: true });
    expect(m.pageRequests()).toMatchObject([{ R: false, W: false, Last: true, SSV: true, SubstreamID: 5 }]);
  });

  it("refuses every request with Response Failure and no PASID while PRIQEN or SMMUEN is 0 (8.2)", () => {
    for (const off of [{ PRIQEN: false }, { SMMUEN: false }] as Fields[]) {
      const m = new Machine().start(off);
      const device = m.endpoint(0);
      m.pageRequest({ rid: 0, last: false, prgi: 3 });
      m.pageRequest({ rid: 0, pasid: 5, last: true, prgi: 4 });
      m.pageRequest({ rid: 0, pasid: 5, read: false, last: true });
      expect(device.responses).toEqual([3, 4].map((prgi) => ({ rid: 0, pasid: -1, prgi, code: RESPONSE_FAILURE })));
      expect(read(m, s.PRIQ_PROD)).toBe(0);
    }
  });

  it("raises PRIQ_ABT_ERR when a write aborts, and refuses until that is acknowledged (8.1)", () => {
    const m = new Machine().start({ PRIQEN: false });
    m.set(s.PRIQ_BASE, { ADDR: HOLE, LOG2SIZE: 2 });
    m.set(s.CR0, { SMMUEN: true, PRIQEN: true });
    const device = m.endpoint(0);
    m.pageRequest({ rid: 0, prgi: 1, last: false });
    m.pageRequest({ rid: 0, prgi: 2, last: false });
    expect(active(m)).toMatchObject({ PRIQ_ABT_ERR: true });
    expect(device.responses.map(({ code }) => code)).toEqual([RESPONSE_FAILURE, RESPONSE_FAILURE]);
  });
});

describe("overflow (8.1, G34)", () => {
  it("loses the request, sets OVFLG, and answers a group's last request with Success", () => {
    const m = full();
    const device = m.endpoint(0);
    m.pageRequest({ rid: 0, last: false, prgi: 9 });
    m.pageRequest({ rid: 0, last: true, prgi: 9 });
    expect(read(m, s.PRIQ_PROD)).toBe((4 | OVFLG) >>> 0);
    expect(device.responses).toEqual([{ rid: 0, pasid: -1, prgi: 9, code: SUCCESS }]);
    expect(m.pageRequests()).toHaveLength(4);
  });

  it("goes on until OVACKFLG is equal, even with room (8.1)", () => {
    const m = full();
    const device = m.endpoint(0);
    m.pageRequest({ rid: 0, prgi: 9 });
    m.chip.write32(s.PRIQ_CONS.offset, 4);
    m.pageRequest({ rid: 0, prgi: 10 });
    m.chip.write32(s.PRIQ_CONS.offset, (4 | OVFLG) >>> 0);
    m.pageRequest({ rid: 0, prgi: 11 });
    expect(device.responses.map(({ prgi }) => prgi)).toEqual([9, 10]);
    expect(m.pageRequests()).toMatchObject([{ PRGIndex: 11 }]);
  });

  it.each([
    ["carries the PASID where STE.PPAR is 1", true, false, 5],
    ["carries none where STE.PPAR is 0", false, false, -1],
    ["carries the PASID where IDR3.PPS is 1, whatever PPAR says", false, true, 5],
  ])("%s (5.2 PPAR, 6.3.4 PPS)", (_, PPAR, PPS, pasid) => {
    const m = full(variant("everything", { idr3: { PPS } }));
    m.ste(0, { Config: "s1", S1ContextPtr: 0x4020_0000, PPAR });
    const device = m.endpoint(0);
    m.pageRequest({ rid: 0, pasid: 5, prgi: 9 });
    expect(device.responses).toEqual([{ rid: 0, pasid, prgi: 9, code: SUCCESS }]);
  });

  it("answers Response Failure where PPAR cannot be read, and records why only with CR2.REC_CFG_ATS (6.3.12)", () => {
    const quiet = full();
    quiet.ste(1, { V: false });
    const device = quiet.endpoint(1);
    quiet.pageRequest({ rid: 1, pasid: 5, prgi: 9 });
    expect([device.responses, quiet.events()]).toEqual([[{ rid: 1, pasid: -1, prgi: 9, code: RESPONSE_FAILURE }], []]);
    const loud = full("everything", { REC_CFG_ATS: true });
    loud.ste(1, { V: false });
    loud.pageRequest({ rid: 1, pasid: 5, prgi: 9 });
    expect(loud.events()).toMatchObject([{ ID: "C_BAD_STE", StreamID: 1, SSV: true, SubstreamID: 5 }]);
  });

  it("never answers a stop marker; without a PASID the same bits are a request (8.1)", () => {
    const m = full();
    const device = m.endpoint(0);
    m.pageRequest({ rid: 0, pasid: 5, read: false, last: true, prgi: 0 });
    m.pageRequest({ rid: 0, pasid: -1, read: false, last: true, prgi: 7 });
    expect(device.responses.map(({ prgi }) => prgi)).toEqual([7]);
  });

  it("shows in the trace what was lost and what was answered", () => {
    const m = full();
    const records = m.traced(() => m.pageRequest({ rid: 0, prgi: 9 }));
    expect(records.filter(({ name }) => name.startsWith("pri:"))).toMatchObject([
      { name: "pri:requested", prgi: 9, last: true, access: 1 },
      { name: "pri:dropped", reason: "queue full" },
      { name: "pri:answered", code: "success" },
    ]);
  });
});

describe("CMD_PRI_RESP (4.5.2, G27)", () => {
  it.each([
    ["denied", RESPONSE_FAILURE],
    ["invalid", INVALID_REQUEST],
    ["success", SUCCESS],
  ])("answers %s with the code of PCIe", (Resp, code) => {
    const m = machine();
    const device = m.endpoint(4);
    m.command([s.CMD_PRI_RESP, { Opcode: "PRI_RESP", StreamID: 4, SSV: true, SubstreamID: 6, PRGIndex: 0x1ff, Resp }]);
    m.command([s.CMD_PRI_RESP, { Opcode: "PRI_RESP", StreamID: 4, SSV: false, SubstreamID: 6, PRGIndex: 1, Resp }]);
    expect(device.responses).toEqual([
      { rid: 4, pasid: 6, prgi: 0x1ff, code },
      { rid: 4, pasid: -1, prgi: 1, code },
    ]);
  });

  it("sends nothing while SMMUEN is 0", () => {
    const m = new Machine().start({ SMMUEN: false });
    const device = m.endpoint(4);
    m.command([s.CMD_PRI_RESP, { Opcode: "PRI_RESP", StreamID: 4, Resp: "success" }]);
    expect([device.responses, read(m, s.CMDQ_CONS)]).toEqual([[], 2]);
  });
});
