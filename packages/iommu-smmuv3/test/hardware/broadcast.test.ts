import { AtsStatus, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { DATA, type Fields, Machine, variant } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const VA = 0x1000n;
/** TLBI VAE1IS of the page, as a PE with the process's ASID sends it. */
const TLBI = { regime: "el1", asid: 1, first: VA, last: VA + 0xfffn } as const;

/** A page that the TLB holds, and whose descriptor is gone. With ASET = 0 the ASID is shared with PEs. */
function stale(cr2: Fields, cd: Fields = { ASET: false }, preset?: s.Smmuv3Preset): Machine {
  const m = new Machine(preset).start({}, cr2);
  m.stage1(0, { EATS: "full" }, cd);
  const at = m.map(VA, DATA);
  expect(m.translate(VA)).toBe(OK);
  m.memory.store64(at, 0, 0);
  expect(m.translate(VA)).toBe(OK);
  return m;
}

describe("broadcast TLB maintenance (3.17, IDR0.BTM, C12)", () => {
  it("reaches the TLB while CR2.PTM is 0 (C12)", () => {
    const m = stale({ RECINVSID: true, PTM: false });
    m.chip.broadcastInvalidate(TLBI);
    expect(m.translate(VA)).toBe(FAULT);
  });

  it("is ignored with CR2.PTM, as Linux sets it (C12)", () => {
    const m = stale({ RECINVSID: true, PTM: true });
    m.chip.broadcastInvalidate(TLBI);
    expect(m.translate(VA)).toBe(OK);
    m.command([s.CMD_TLBI_NH_VA, { Opcode: "TLBI_NH_VA", ASID: 1, Address: VA }]);
    expect(m.translate(VA)).toBe(FAULT);
  });

  it("leaves entries of another ASID, and of a set that is not shared with PEs (5.4 ASET)", () => {
    const other = stale({ PTM: false });
    other.chip.broadcastInvalidate({ ...TLBI, asid: 2 });
    expect(other.translate(VA)).toBe(OK);
    const own = stale({ PTM: false }, { ASET: true });
    own.chip.broadcastInvalidate(TLBI);
    expect(own.translate(VA)).toBe(OK);
  });

  it("does not look at VMIDs without stage 2 (3.17)", () => {
    const m = stale({ PTM: false }, {}, variant("everything", { idr0: { S2P: false } }));
    m.chip.broadcastInvalidate({ ...TLBI, vmid: 9 });
    expect(m.translate(VA)).toBe(FAULT);
    const both = stale({ PTM: false });
    both.chip.broadcastInvalidate({ ...TLBI, vmid: 9 });
    expect(both.translate(VA)).toBe(OK);
  });

  it("sends nothing to an ATC: that takes a CMD_ATC_INV (C12)", () => {
    const m = stale({ RECINVSID: true, PTM: false });
    const endpoint = m.endpoint(0);
    expect(m.ats(VA)).toBe(AtsStatus.SUCCESS);
    m.chip.broadcastInvalidate(TLBI);
    expect(endpoint.invalidations).toEqual([]);
    m.command([s.CMD_ATC_INV, { Opcode: "ATC_INV", StreamID: 0, Size: 52 }]);
    expect(endpoint.invalidations).toHaveLength(1);
  });
});
