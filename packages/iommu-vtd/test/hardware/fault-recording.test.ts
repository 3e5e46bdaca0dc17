import { Access, AtsStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { everything, qemu11Q35 } from "../../src/presets.js";
import { PASID_DIRECTORY_ENTRY } from "../../src/spec/pasid-table.js";
import { FE, FSTS } from "../../src/spec/registers.js";
import { Bench, DIRECTORY, PASIDS, RID } from "./bench.js";

const { READ, WRITE, EXEC, PRIV, TRANSLATED } = Access;

/** Everything that RID and its neighbours ask for faults: their context entries are not present. */
function faulty(preset = everything): Bench {
  const bench = new Bench(preset);
  bench.legacy({ P: 0 });
  return bench;
}

describe("fault recording registers (7.2.1)", () => {
  it("are filled in turn, with FRI at the first", () => {
    const bench = faulty();
    for (let n = 0; n < 3; n++) bench.translate(BigInt(n) << 12n, READ, -1, RID + n);
    expect([0, 1, 2, 3].map((index) => [bench.fault(index).F, bench.fault(index).SID])).toEqual([
      [true, RID],
      [true, RID + 1],
      [true, RID + 2],
      [false, 0],
    ]);
    expect(bench.status).toMatchObject({ PPF: true, FRI: 0, PFO: false });
    for (const index of [0, 1, 2]) bench.clearFault(index);
    expect(bench.status.PPF).toBe(false);
    bench.translate(0n, READ);
    expect([bench.status.FRI, bench.fault(3).F]).toEqual([3, true]);
  });

  it("overflow: the record is lost, PFO stops recording until it is cleared", () => {
    const bench = faulty();
    for (let n = 0; n < 9; n++) bench.translate(BigInt(n) << 12n, READ);
    expect(bench.status).toMatchObject({ PFO: true, FRI: 0 });
    expect(bench.fault(0).FI).toBe(0n);
    bench.clearFault(0);
    bench.translate(0xabc000n, READ);
    expect(bench.fault(0).F).toBe(false);
    bench.chip.write32(FSTS.offset, FSTS.PFO.lowMask);
    bench.translate(0xabc000n, READ);
    expect(bench.fault(0)).toMatchObject({ F: true, FI: 0xabc000n });
  });

  it("start over when translation and interrupt remapping are both off", () => {
    const bench = faulty();
    bench.translate(0n, READ);
    bench.clearFault(0);
    bench.command("TE", false);
    bench.command("TE");
    bench.translate(0n, READ);
    expect(bench.fault(0).F).toBe(true);
  });

  it("collapse faults of one source with compression", () => {
    const bench = faulty(qemu11Q35);
    bench.translate(0x1000n, READ);
    bench.translate(0x2000n, READ);
    expect(bench.status.PFO).toBe(false);
    bench.translate(0x2000n, READ, -1, RID + 1);
    expect(bench.status.PFO).toBe(true);
  });

  it("carry type, PASID, privilege and execution (H16)", () => {
    const bench = new Bench(everything);
    bench.scalable({ 5: { PGTT: "firstStage", SRE: 1, ERE: 1, FSPTPTR: 0x1_0008_0000 } });
    bench.translate(0x1000n, WRITE, 5);
    bench.translate(0x1000n, READ, 5);
    bench.translate(0x1000n, READ | WRITE, 5);
    bench.translate(0x1000n, READ | EXEC | PRIV, 5);
    const fields = [0, 1, 2, 3]
      .map((index) => bench.fault(index))
      .map(({ T1, T2, EXE, PRIV: privileged, PP, PV }) => [T1, T2, EXE, privileged, PP, PV]);
    expect(fields).toEqual([
      [false, false, false, false, true, 5],
      [true, false, false, false, true, 5],
      [true, true, false, false, true, 5],
      [true, false, true, true, true, 5],
    ]);
    bench.pageRequest({ pasid: 7, address: 0x1000 });
    expect(bench.fault(4)).toMatchObject({ FR: 0x59, T1: false, T2: true, PV: 7 });
  });

  it("carry the address type", () => {
    const bench = new Bench(everything);
    bench.scalable({}, { DTE: 0, PRE: 0 });
    expect(bench.translationRequest(0x1000n, READ)).toBe(AtsStatus.UR);
    bench.translate(0x1000n, READ | TRANSLATED);
    expect([bench.fault(0).AT, bench.fault(1).AT]).toEqual(["translationRequest", "translated"]);
    // An atomic keeps its type as a translated request; a translation request is a read on the wire.
    expect(bench.translationRequest(0x1000n, READ | WRITE)).toBe(AtsStatus.UR);
    bench.translate(0x1000n, READ | WRITE | TRANSLATED);
    expect([2, 3].map((index) => bench.fault(index)).map(({ T1, T2 }) => [T1, T2])).toEqual([
      [true, false],
      [true, true],
    ]);
  });

  it("cut the address at the widest guest address (11.4.7.6)", () => {
    const bench = faulty(qemu11Q35);
    bench.translate(0xffff_1234_5678_9000n, READ);
    expect(bench.fault().FI).toBe(0x1234_5678_9000n);
  });
});

describe("FPD (H18)", () => {
  it("keeps qualified faults of a context entry out, present or not", () => {
    for (const context of [
      { P: 0, FPD: 1 },
      { FPD: 1, AW: 0 },
    ]) {
      const bench = new Bench(everything);
      bench.legacy(context);
      const dropped = bench.traced(() => bench.translate(0x1000n, READ)).find(({ name }) => name === "fault:dropped");
      expect(dropped).toMatchObject({ reason: "FPD" });
      expect(bench.status.PPF).toBe(false);
    }
  });

  it("keeps faults below a directory entry or a PASID entry out, from tables and from the IOTLB", () => {
    const bench = new Bench(everything);
    const root = bench.table();
    bench.scalable({ 5: { P: 0, FPD: 1 }, 6: { PGTT: "firstStage", FSPTPTR: root, FPD: 1 } });
    bench.map(root, 4, 0x1000n, 0x1_0080_0005n, 7n);
    bench.translate(0x1000n, READ, 5);
    bench.translate(0x9000_0000_0000n, READ, 6);
    bench.translate(0x1000n, READ, 6);
    bench.translate(0x1000n, WRITE, 6);
    expect(bench.status.PPF).toBe(false);
  });

  it("is inherited: from a scalable-mode context entry, and from a PASID directory entry", () => {
    const below = new Bench(everything);
    below.scalable({ 5: { P: 0 } }, { FPD: 1 });
    below.translate(0x1000n, READ, 5);
    expect(below.status.PPF).toBe(false);
    const directory = new Bench(everything);
    directory.scalable({ 5: { P: 0 } });
    directory.put(DIRECTORY, PASID_DIRECTORY_ENTRY, { P: 1, FPD: 1, SMPTBLPTR: PASIDS });
    directory.translate(0x1000n, READ, 5);
    expect(directory.status.PPF).toBe(false);
    directory.put(DIRECTORY, PASID_DIRECTORY_ENTRY, { P: 1, SMPTBLPTR: PASIDS });
    directory.translate(0x1000n, READ, 5);
    expect(directory.fault().FR).toBe(0x59);
  });

  it("does not keep out what no entry with FPD led to", () => {
    const bench = new Bench(everything);
    bench.legacy({ FPD: 1 });
    bench.setRoot(0, 0x7_0000_0000);
    bench.translate(0x1000n, READ);
    expect(bench.fault().FR).toBe(8);
  });
});

describe("fault event (7.3)", () => {
  it("comes once until software has serviced every condition", () => {
    const bench = faulty();
    bench.set(FE.ADDR, { MA: 0xfee0_1000 });
    bench.set(FE.UADDR, { MUA: 1 });
    bench.set(FE.DATA, { IMD: 0x31 });
    bench.set(FE.CTL, { IM: false });
    bench.translate(0n, READ);
    bench.translate(0n, READ);
    expect(bench.messages).toEqual([{ address: 0x1_fee0_1000, data: 0x31 }]);
    bench.clearFault(0);
    bench.translate(0n, READ);
    expect(bench.messages.length).toBe(1);
    bench.clearFault(1);
    bench.clearFault(2);
    bench.translate(0n, READ);
    expect(bench.messages.length).toBe(2);
  });

  it("is pending while masked, and not any more when serviced", () => {
    const bench = faulty();
    expect(bench.get(FE.CTL)).toEqual({ IM: true, IP: false });
    bench.translate(0n, READ);
    expect(bench.get(FE.CTL)).toEqual({ IM: true, IP: true });
    bench.clearFault(0);
    expect(bench.get(FE.CTL)).toEqual({ IM: true, IP: false });
    bench.set(FE.CTL, { IM: false });
    expect(bench.messages).toEqual([]);
  });
});
