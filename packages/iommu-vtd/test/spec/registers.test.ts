import { describe, expect, it } from "vitest";
import { everything, PRESETS, qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { CAP, ECAP, FIXED_REGISTERS, frcdRegisters, iotlbRegisters } from "../../src/spec/registers.js";

/** H1, and the enums of Linux's iommu.h. */
const OFFSETS = {
  VER: 0x00,
  CAP: 0x08,
  ECAP: 0x10,
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  FEADDR: 0x40,
  FEUADDR: 0x44,
  AFLOG: 0x58,
  PMEN: 0x64,
  PLMBASE: 0x68,
  PLMLIMIT: 0x6c,
  PHMBASE: 0x70,
  PHMLIMIT: 0x78,
  IQH: 0x80,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IECTL: 0xa0,
  IEDATA: 0xa4,
  IEADDR: 0xa8,
  IEUADDR: 0xac,
  IQER: 0xb0,
  IRTA: 0xb8,
  PQH: 0xc0,
  PQT: 0xc8,
  PQA: 0xd0,
  PRS: 0xdc,
  PECTL: 0xe0,
  PEDATA: 0xe4,
  PEADDR: 0xe8,
  PEUADDR: 0xec,
};

function words(value: bigint): Int32Array {
  return Int32Array.of(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
}

describe("registers", () => {
  it("stand where the specification puts them (H1)", () => {
    expect(Object.fromEntries(FIXED_REGISTERS.map(({ name, offset }) => [name, offset]))).toEqual(OFFSETS);
  });

  it("follow CAP.FRO and ECAP.IRO where those say (H1)", () => {
    expect(frcdRegisters(0x22, 2).map(({ LO, HI }) => [LO.offset, HI.offset])).toEqual([
      [0x220, 0x228],
      [0x230, 0x238],
    ]);
    const { IVA, IOTLB } = iotlbRegisters(0xf);
    expect([IVA.offset, IOTLB.offset]).toEqual([0xf0, 0xf8]);
  });
});

describe("CAP and ECAP", () => {
  it("decode QEMU 11.1's values (H2, H3)", () => {
    expect(CAP.decode(words(0x80d2008c222f0606n))).toMatchObject({
      ND: 6,
      CM: false,
      SAGAW: 0b110,
      MGAW: 47,
      ZLR: false,
      FRO: 0x22,
      SSLPS: 3,
      PSI: true,
      NFR: 0,
      MAMV: 18,
      DWD: true,
      DRD: true,
      ESRTPS: true,
      ESIRTPS: false,
      FS5LP: false,
    });
    expect(ECAP.decode(words(0xf00f4an))).toMatchObject({
      C: false,
      QI: true,
      DT: false,
      IR: true,
      EIM: false,
      PT: true,
      SC: false,
      IRO: 0xf,
      MHMV: 0xf,
      SMTS: false,
    });
  });

  it("decode what a Sapphire Rapids server prints at boot (H2, H3)", () => {
    expect(CAP.decode(words(0x19ed008c40780c66n))).toMatchObject({
      ND: 6,
      PLMR: true,
      PHMR: true,
      SAGAW: 0b1100,
      MGAW: 56,
      ZLR: true,
      FRO: 0x40,
      SSLPS: 3,
      PSI: true,
      NFR: 0,
      MAMV: 45,
      FS1GP: true,
      PI: true,
      FS5LP: true,
    });
    expect(ECAP.decode(words(0x3ef9ea6f050dfn))).toMatchObject({
      IRO: 0x50,
      MHMV: 15,
      MTS: true,
      NEST: true,
      PRS: true,
      SRS: true,
      NWFS: true,
      EAFS: true,
      PSS: 19,
      PASID: true,
      DIT: true,
      PDS: true,
      SMTS: true,
      SSADS: true,
      SSTS: true,
      FSTS: true,
      SMPWCS: true,
      RPS: true,
    });
  });
});

describe("presets", () => {
  it("are found by name", () => {
    expect(Object.values(PRESETS)).toEqual([qemu11Q35, sapphireRapidsLike, everything]);
    for (const [name, preset] of Object.entries(PRESETS)) expect(preset.name).toBe(name);
  });

  it.each(Object.values(PRESETS))("$name sets no reserved bit and promises nothing without what it needs", (preset) => {
    expect(CAP.reservedViolated(words(preset.cap))).toBe(false);
    expect(ECAP.reservedViolated(words(preset.ecap))).toBe(false);
    const { QI, SMTS, DT, PRS, NEST, FSTS, SSTS, RPRIVS, SRS, IR, SSADS, SMPWCS } = ECAP.decode(words(preset.ecap));
    expect([
      SMTS && !QI,
      DT && !QI,
      IR && !QI,
      PRS && !(DT && SMTS),
      NEST && !(FSTS && SSTS),
      RPRIVS && !SRS,
      SSADS && !SMPWCS,
    ]).toEqual(Array(7).fill(false));
  });
});
