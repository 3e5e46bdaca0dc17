/** The VT-d unit that a device script was written for. The rest of it is QEMU's. */
import { type Encodable, hi32, lo32 } from "@iommukit/core";
import { CAP, ECAP, qemu11Q35, type VtdPreset } from "@iommukit/iommu-vtd";
import { namedFields, unknownKeys } from "./config.js";
import { number } from "./values.js";

type Config = Readonly<Record<string, unknown>>;
type Values = Encodable<(typeof CAP)["specs"]> & Encodable<(typeof ECAP)["specs"]>;

/** A capability register of QEMU's with these fields instead. */
function changed(table: typeof CAP | typeof ECAP, value: bigint, fields: Values): bigint {
  const words = Int32Array.of(lo32(value), hi32(value));
  const all = (table as typeof CAP).encode({ ...table.decode(words), ...fields } as Encodable<(typeof CAP)["specs"]>);
  return (BigInt(all[1] >>> 0) << 32n) | BigInt(all[0] >>> 0);
}

/** The keys of `config` that say what the unit has. */
export const VTD_CONFIG = ["mgaw", "sagaw", "nfr", "fro", "iro", "scalable", "first_stage", "pasid"];

/** A script says of its unit what its steps rely on; the rest is that of QEMU's. */
export function vtdPreset(config: Config): VtdPreset {
  // OpenVMM's unit, whose scripts name where its registers are.
  const own = config.fro !== undefined;
  const given = (name: string, field: string, of: (value: number) => number) =>
    config[name] === undefined ? {} : { [field]: of(number(config[name])) };
  const scalable = Number(config.scalable ?? 0);
  const firstStage = Number(config.first_stage ?? 1);
  const cap = {
    ...namedFields(config, CAP),
    ...given("mgaw", "MGAW", (bits) => bits - 1),
    ...given("fro", "FRO", (offset) => offset / 16),
  };
  const tables = {
    SMTS: 1,
    SRS: 1,
    SMPWCS: 1,
    PSS: 19,
    FSTS: firstStage,
    SSTS: config.first_stage === undefined ? 1 : 1 - firstStage,
  };
  const ecap = {
    ...(own ? { C: 1, EIM: 1, SC: 1 } : {}),
    ...(scalable === 0 ? {} : tables),
    ...namedFields(config, ECAP),
    ...given("iro", "IRO", (offset) => offset / 16),
  };
  return {
    ...qemu11Q35,
    name: "script",
    cap: changed(CAP, qemu11Q35.cap, cap),
    ecap: changed(ECAP, qemu11Q35.ecap, ecap),
    faultCompression: !own && scalable === 0,
  };
}

/** Keys that say nothing that a unit here could have. */
export function unknownToVtd(config: Config): string[] {
  return unknownKeys(config, VTD_CONFIG, [CAP, ECAP]);
}
