import { describe, expect, it } from "vitest";
import { PRESETS } from "../src/presets.js";
import { CAP, ECAP } from "../src/spec/registers.js";

const words = (value: bigint) =>
  Int32Array.of(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));

/** Fields that are zero unless all of these are set: "implementations reporting … as Clear also report this field as Clear". */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  // 11.4.2
  FS5LP: ["FSTS"],
  FS1GP: ["FSTS"],
  PI: ["IR"],
  MAMV: ["PSI"],
  // 11.4.3
  IRREQ: ["IR"],
  EIMER: ["EIM"],
  HPT1GPS: ["HPTS"],
  SMS: ["PRS"],
  SSIRWS: ["SSTS"],
  PTRS: ["DT", "PASID"],
  HPTS: ["SMTS", "DT"],
  RPRIVS: ["SRS"],
  PMS: ["ECMDS"],
  RPS: ["SMTS"],
  SMPWCS: ["SMTS"],
  FSTS: ["SMTS"],
  SSADS: ["SMPWCS"],
  SMTS: ["QI"],
  PDS: ["DT"],
  DIT: ["DT"],
  PASID: ["SMTS"],
  PSS: ["SMTS"],
  EAFS: ["FSTS", "SMPWCS"],
  NWFS: ["DT"],
  SRS: ["SMTS"],
  PRS: ["DT", "SMTS"],
  NEST: ["SMTS", "FSTS", "SSTS"],
  MTS: ["SMTS"],
  MHMV: ["IR"],
  EIM: ["IR"],
  IR: ["QI"],
  DT: ["QI"],
};

describe.each(Object.values(PRESETS))("preset $name", ({ cap, ecap, version: [major], hostAddressWidth }) => {
  const capabilities = CAP.decode(words(cap));
  const fields: Readonly<Record<string, number | boolean>> = { ...capabilities, ...ECAP.decode(words(ecap)) };

  it("has no feature without those that it needs (11.4.2, 11.4.3)", () => {
    const broken = Object.entries(NEEDS).filter(
      ([field, needs]) => Number(fields[field]) !== 0 && !needs.every((need) => fields[need]),
    );
    expect(broken).toEqual([]);
  });

  it("has values that exist (11.4.2)", () => {
    const { ND, SSLPS, MGAW, RWBF, DRD, DWD } = capabilities;
    expect(ND).toBeLessThan(7);
    expect([0, 1, 3]).toContain(SSLPS);
    expect(MGAW + 1).toBeGreaterThanOrEqual(hostAddressWidth);
    expect(RWBF && fields.SMTS).toBe(false);
    expect(major < 2 || (DRD && DWD)).toBe(true);
  });
});
