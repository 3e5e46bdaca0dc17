/** Stream Table Entries as the driver makes them (IHI 0070 5.2). */
import { STE, type STE_S1DSS } from "../spec/stream-table.js";
import type { StageTwoControl } from "./page-table-geometry.js";
import type { Smmuv3Features } from "./probe.js";

const CACHE_WRITE_BACK = 1;
const INNER_SHAREABLE = 3;

/** Terminates everything, silently. */
export function abortSte(): Int32Array {
  return STE.encode({ V: true, Config: "abort" });
}

export function bypassSte(features: Smmuv3Features): Int32Array {
  return STE.encode({ V: true, Config: "bypass", SHCFG: shareability(features, true) });
}

/** Transactions that leave with their own attributes keep their shareability where it could be overridden. */
function shareability(features: Smmuv3Features, passes: boolean): "incoming" | "nonShareable" {
  return features.attributeTypesOverride && passes ? "incoming" : "nonShareable";
}

export interface CdTableReference {
  readonly base: number;
  /** STE.S1Fmt. */
  readonly format: number;
  /** log2 of its entries. */
  readonly cdMax: number;
}

export interface StageOneStream {
  readonly table: CdTableReference;
  readonly ats: boolean;
  /** Faults of the stream may stall. */
  readonly stall: boolean;
  /** PRG responses to the function need a PASID, also those that the SMMU gives by itself. */
  readonly responsesWithPasid: boolean;
  /** What becomes of transactions without a substream. */
  readonly s1dss: keyof typeof STE_S1DSS;
}

export function stageOneSte(stream: StageOneStream, features: Smmuv3Features): Int32Array {
  return STE.encode({
    V: true,
    Config: "s1",
    S1Fmt: stream.table.format,
    S1ContextPtr: stream.table.base,
    S1CDMax: stream.table.cdMax,
    S1DSS: stream.s1dss,
    S1CIR: CACHE_WRITE_BACK,
    S1COR: CACHE_WRITE_BACK,
    S1CSH: INNER_SHAREABLE,
    S1STALLD: features.stalls && !stream.stall,
    PPAR: features.pri && stream.responsesWithPasid,
    EATS: stream.ats ? "full" : "abort",
    STRW: "nsEl1",
    SHCFG: shareability(features, stream.s1dss === "bypass"),
  });
}

export interface StageTwoStream {
  readonly vmid: number;
  readonly root: number;
  readonly control: StageTwoControl;
  readonly ats: boolean;
  readonly stall: boolean;
  readonly forceWriteBack: boolean;
}

export function stageTwoSte(stream: StageTwoStream, features: Smmuv3Features): Int32Array {
  const { control } = stream;
  return STE.encode({
    V: true,
    Config: "s2",
    EATS: stream.ats ? "full" : "abort",
    S2FWB: stream.forceWriteBack,
    SHCFG: shareability(features, true),
    S2VMID: stream.vmid,
    S2T0SZ: control.tsz,
    S2SL0: control.sl,
    S2IR0: control.irgn,
    S2OR0: control.orgn,
    S2SH0: control.sh,
    S2TG: control.tg,
    S2PS: control.ps,
    S2AA64: true,
    S2PTW: true,
    S2S: stream.stall,
    S2R: true,
    S2TTB: stream.root,
  });
}
