import { describe, expect, it } from "vitest";
import { AIDR, IDR0, IDR1, IDR3, IDR5, PRESETS, smmuv3 } from "../src/index.js";

describe("presets", () => {
  it("has QEMU 11.1's identification registers bit for bit (G1, G2, G3)", () => {
    const { idr0, idr1, idr3, idr5, iidr, aidr } = PRESETS["qemu-11-virt"];
    expect([idr0 >>> 0, idr1 >>> 0, idr3, idr5, iidr, aidr]).toEqual([0x0d44101b, 0x02730010, 0x1414, 0x74, 0, 1]);
  });

  it("offers what SVA needs in the server part (G1, G2)", () => {
    const { idr0, idr1 } = PRESETS["mmu-700-like"];
    expect(IDR0.decode(Int32Array.of(idr0))).toMatchObject({
      ATS: true,
      PRI: true,
      HTTU: "accessAndDirty",
      STALL_MODEL: "both",
      BTM: false,
      CD2L: true,
    });
    expect(IDR1.SSIDSIZE.get(Int32Array.of(idr1))).toBe(20);
  });

  it("adds to it everything else that the model has", () => {
    const { idr0, idr5 } = PRESETS.everything;
    expect(IDR0.decode(Int32Array.of(idr0))).toMatchObject({ BTM: true, VMW: true, ATSRECERR: true });
    expect(IDR5.decode(Int32Array.of(idr5))).toMatchObject({ OAS: "bits52", VAX: "bits52" });
  });

  it.each(Object.values(PRESETS))("shows what its revision requires: $name (6.3.1 to 6.3.6)", (preset) => {
    const idr0 = IDR0.decode(Int32Array.of(preset.idr0));
    const idr1 = IDR1.decode(Int32Array.of(preset.idr1));
    const idr3 = IDR3.decode(Int32Array.of(preset.idr3));
    const idr5 = IDR5.decode(Int32Array.of(preset.idr5));
    const minor = AIDR.ArchMinorRev.get(Int32Array.of(preset.aidr));
    const required = {
      ...(minor >= 1 && { HAD: idr0.S1P, XNX: idr0.S2P }),
      ...(minor >= 2 && { RIL: true, FWB: true, BBML: "level2" }),
      ...(minor >= 3 && { E0PD: true, PTWNNC: idr0.S2P }),
    };
    expect(idr3).toMatchObject(required);
    expect(idr5.STALL_MAX === 0).toBe(idr0.STALL_MODEL === "terminate");
    expect(Number(idr1.SIDSIZE) < 7 || idr0.ST_LEVEL === "twoLevel").toBe(true);
    expect(idr0.ATS || !idr0.PRI).toBe(true);
    // Absent from the model, so from every preset: stage 1 translation by registers, AArch32 tables, memory types.
    expect(idr0).toMatchObject({ ATOS: false, VATOS: false, TTF: "aarch64" });
    expect(idr1).toMatchObject({ ATTR_TYPES_OVR: false, ECMDQ: false, TABLES_PRESET: false, QUEUES_PRESET: false });
    expect(idr3).toMatchObject({ PBHA: false, MPAM: false, DPT: false });
    expect(idr5).toMatchObject({ DS: false, D128: false });
  });

  it.each([-3, 20, 1.5])("are refused with queues of 2^%s entries, for which IDR1 has no number", (queueShift) => {
    expect(() => smmuv3({ queueShift })).toThrow(`EINVAL: queues of 2^${queueShift} entries; 0 to 19 are possible`);
  });
});
