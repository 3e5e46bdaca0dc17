import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { DATA, type Endpoint, type Fields, Machine, machine, variant } from "./machine.js";

const { OK, FAULT, STALLED, ABORTED } = TranslationStatus;
const VA = 0x1000n;

function stalling(preset: s.Smmuv3PresetName | s.Smmuv3Preset = "everything"): { m: Machine; device: Endpoint } {
  const m = machine(preset);
  m.stage1(0, {}, { S: true });
  return { m, device: m.endpoint(0) };
}

const resume = (values: Fields): [typeof s.CMD_RESUME, Fields] => [s.CMD_RESUME, { Opcode: "RESUME", ...values }];

describe("stalled transactions (3.12.2, G33)", () => {
  it("are recorded with a tag and wait for CMD_RESUME (7.3.13)", () => {
    const { m, device } = stalling();
    expect(m.translate(VA, Access.WRITE)).toBe(STALLED);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION", Stall: true, STAG: m.out.stag, RnW: false }]);
    m.map(VA, DATA);
    m.command(resume({ StreamID: 0, STAG: m.out.stag, Ac: true }));
    expect(device.stalls).toEqual([{ stag: m.out.stag, action: "retry" }]);
    expect(m.translate(VA, Access.WRITE)).toBe(OK);
  });

  it.each<[string, Fields, string]>([
    ["abort with Ab = 1", { Ac: false, Ab: true }, "abort"],
    ["zeros, or a write that is ignored, with Ab = 0", { Ac: false, Ab: false }, "terminate"],
    ["a retry with Ac = 1, whatever Ab says", { Ac: true, Ab: true }, "retry"],
  ])("end in %s (4.7.1, G27)", (_, values, action) => {
    const { m, device } = stalling();
    m.translate(VA);
    m.command(resume({ StreamID: 0, STAG: m.out.stag, ...values }));
    expect(device.stalls).toEqual([{ stag: m.out.stag, action }]);
  });

  it("abort at Ab = 0 where TERM_MODEL is 1 (6.3.1)", () => {
    const { m, device } = stalling(variant("everything", { idr0: { TERM_MODEL: true } }));
    m.translate(VA);
    m.command(resume({ StreamID: 0, STAG: m.out.stag }));
    expect(device.stalls).toMatchObject([{ action: "abort" }]);
  });

  it("are named by StreamID and tag: a command that has either wrong does nothing, and so does a second one (4.7.1)", () => {
    const { m, device } = stalling();
    m.translate(VA);
    const STAG = m.out.stag;
    m.command(resume({ StreamID: 1, STAG, Ac: true }), resume({ StreamID: 0, STAG: STAG + 1, Ac: true }));
    expect(device.stalls).toEqual([]);
    m.command(resume({ StreamID: 0, STAG, Ac: true }), resume({ StreamID: 0, STAG, Ac: true }));
    expect(device.stalls).toHaveLength(1);
  });

  it("have tags of their own, which are not used again at once", () => {
    const { m } = stalling();
    const tags = [0, 1, 2].map(() => {
      m.translate(VA);
      return m.out.stag;
    });
    m.command(resume({ StreamID: 0, STAG: tags[0], Ac: true }));
    m.translate(VA);
    expect(new Set([...tags, m.out.stag]).size).toBe(4);
  });

  it("beyond STALL_MAX have no record before another one ends (6.3.6)", () => {
    const { m, device } = stalling(variant("everything", { idr5: { STALL_MAX: 2 } }));
    const tags = [0, 1, 2].map(() => {
      expect(m.translate(VA)).toBe(STALLED);
      return m.out.stag;
    });
    expect(m.events()).toHaveLength(2);
    m.command(resume({ StreamID: 0, STAG: tags[1], Ab: true }));
    // What waits at the port is retried as though it had just come.
    expect(device.stalls).toEqual([
      { stag: tags[1], action: "abort" },
      { stag: tags[2], action: "retry" },
    ]);
  });

  it("wait for room in the event queue: none is lost, and none overflows it (7.4)", () => {
    const { m, device } = stalling();
    for (let i = 0; i < 17; i++) expect(m.translate(VA)).toBe(STALLED);
    expect(m.chip.read32(s.EVENTQ_PROD.offset)).toBe(16);
    expect(m.events()).toHaveLength(16);
    expect(device.stalls).toMatchObject([{ action: "retry" }]);
    expect(m.translate(VA)).toBe(STALLED);
    expect(m.events()).toHaveLength(1);
  });

  it("wait while the event queue is disabled, and are retried when it is enabled (7.2.1)", () => {
    const m = new Machine().start({ EVENTQEN: false });
    m.stage1(0, {}, { S: true });
    const device = m.endpoint(0);
    expect(m.translate(VA)).toBe(STALLED);
    m.set(s.CR0, { SMMUEN: true, EVENTQEN: true });
    expect(device.stalls).toMatchObject([{ action: "retry" }]);
  });

  it("are not merged, not even with MEV (7.3.1)", () => {
    const { m } = stalling();
    m.ste(0, { Config: "s1", MEV: true, S1ContextPtr: 0x4020_0000 });
    m.translate(VA);
    m.translate(VA);
    expect(m.events()).toHaveLength(2);
  });

  it("end with an abort for the whole stream at CMD_STALL_TERM (4.7.2)", () => {
    const { m, device } = stalling();
    m.stage1(1, {}, { S: true });
    const other = m.endpoint(1);
    m.translate(VA);
    m.translate(VA);
    m.translate(VA, Access.READ, 1);
    m.command([s.CMD_STALL_TERM, { Opcode: "STALL_TERM", StreamID: 0 }]);
    expect(device.stalls.map(({ action }) => action)).toEqual(["abort", "abort"]);
    expect(other.stalls).toEqual([]);
  });

  it("end when SMMUEN goes to 0 (6.3.9.6)", () => {
    const { m, device } = stalling();
    m.translate(VA);
    m.set(s.CR0, { EVENTQEN: true, CMDQEN: true });
    expect(device.stalls).toMatchObject([{ action: "abort" }]);
  });

  it("end when SMMUEN goes to 0, those without a record too: a retry would bypass the chip (6.3.9.6)", () => {
    const { m, device } = stalling(variant("everything", { idr5: { STALL_MAX: 1 } }));
    m.stage1(1, {}, { S: true });
    const other = m.endpoint(1);
    for (const sid of [0, 0, 1]) expect(m.translate(VA, Access.READ, sid)).toBe(STALLED);
    m.set(s.CR0, { EVENTQEN: true, CMDQEN: true });
    expect(device.stalls.map(({ action }) => action)).toEqual(["abort", "abort"]);
    expect(other.stalls.map(({ action }) => action)).toEqual(["abort"]);
  });

  it("are recorded whatever CD.R says (5.5)", () => {
    const m = machine();
    m.stage1(0, {}, { S: true, R: false });
    expect(m.translate(VA)).toBe(STALLED);
    expect(m.events()).toHaveLength(1);
  });

  it("come from stage 2 with S2S, and name the IPA (5.2)", () => {
    const m = machine();
    m.stage2(0, { S2S: true });
    expect(m.translate(0x5000n)).toBe(STALLED);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION", S2: true, Stall: true, IPA: 0x5000 }]);
  });

  it("are only translation faults: a bad CD terminates (3.12)", () => {
    const { m } = stalling();
    m.stage1(1, { S1ContextPtr: 0x4021_0000 });
    expect(m.translate(VA, Access.READ, 1)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "C_BAD_CD" }]);
  });

  it("are the only kind of fault where STALL_MODEL forces them (G17)", () => {
    const forced = variant("everything", { idr0: { STALL_MODEL: "force" } });
    const { m } = stalling(forced);
    expect(m.translate(VA)).toBe(STALLED);
    m.stage1(1, {}, { S: false });
    m.flush();
    expect(m.translate(VA, Access.READ, 1)).toBe(FAULT);
    expect(m.events()).toMatchObject([{ ID: "F_TRANSLATION" }, { ID: "C_BAD_CD" }]);
  });

  it("do not exist with S = 0: {A, R} say how it ends (5.5)", () => {
    const m = machine();
    m.stage1(0, {}, { A: false, R: false });
    expect([m.translate(VA), m.events()]).toEqual([ABORTED, []]);
  });

  it("show in the trace, from start to end", () => {
    const { m } = stalling();
    m.endpoints.clear();
    const records = m.traced(() => {
      m.translate(VA);
      m.command(resume({ StreamID: 0, STAG: m.out.stag, Ac: true }));
    });
    expect(records.filter(({ name }) => name.startsWith("stall:"))).toMatchObject([
      { name: "stall:opened", stag: m.out.stag, address: VA },
      { name: "stall:resolved", action: "retry" },
    ]);
  });
});
