import { describe, expect, it } from "vitest";
import { IDR0, IDR1, IDR5, PRESETS } from "../src/index.js";

describe("presets", () => {
  it("has QEMU 11.1's identification registers bit for bit", () => {
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
});
