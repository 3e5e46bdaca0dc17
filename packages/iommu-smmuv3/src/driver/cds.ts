/** Context Descriptors as the driver makes them (IHI 0070 5.4). */
import { hi32, lo32, type PageTable } from "@iommukit/core";
import { CD } from "../spec/context-descriptor.js";
import { MAIR, type StageOneControl } from "./page-table-geometry.js";

const CACHE_WRITE_BACK = 1;
const INNER_SHAREABLE = 3;
/** Granule of a process's tables, as TG0. */
const TG0_OF: Readonly<Record<number, "granule4K" | "granule16K" | "granule64K">> = {
  4096: "granule4K",
  16384: "granule16K",
  65536: "granule64K",
};

/** Tables that the driver made, under an ASID that no CPU shares. */
export function dmaCd(root: number, control: StageOneControl, asid: number, stall: boolean): Int32Array {
  return CD.encode({
    T0SZ: control.tsz,
    TG0: control.tg,
    IR0: control.irgn,
    OR0: control.orgn,
    SH0: control.sh,
    EPD1: true,
    V: true,
    IPS: control.ips,
    AA64: true,
    S: stall,
    R: true,
    A: true,
    ASET: true,
    ASID: asid,
    TTB0: root,
    MAIR0: lo32(MAIR) >>> 0,
    MAIR1: hi32(MAIR) >>> 0,
  });
}

export interface ProcessContext {
  readonly asid: number;
  /** Encoding of the largest output address. */
  readonly ips: number;
  /** IDR0.HTTU: what hardware updates in the process's tables (S29). */
  readonly httu: number;
  readonly stall: boolean;
  /** Faults stall whatever CD.S says, so that it has to be 1. */
  readonly stallForce: boolean;
}

/** A process's tables, under its ASID. */
export function processCd(context: ProcessContext, table: PageTable): Int32Array {
  return CD.assign(common(context, table), {
    T0SZ: 64 - table.vaBits,
    TG0: TG0_OF[table.pageSize],
    IR0: CACHE_WRITE_BACK,
    OR0: CACHE_WRITE_BACK,
    SH0: INNER_SHAREABLE,
    S: context.stall,
    R: true,
    TTB0: table.root,
  });
}

/**
 * What becomes of it when the process is gone (C9): valid, so that transactions on their way raise no C_BAD_CD, but without
 * tables. They abort, neither stalled nor recorded, where the hardware leaves that to software.
 */
export function quietCd(context: ProcessContext, table: PageTable): Int32Array {
  const { stallForce } = context;
  return CD.assign(common(context, table), { EPD0: true, S: stallForce && context.stall, R: stallForce });
}

function common({ ips, httu, asid }: ProcessContext, { mair }: PageTable): Int32Array {
  return CD.encode({
    EPD1: true,
    V: true,
    IPS: ips,
    AA64: true,
    HA: httu >= 1,
    HD: httu >= 2,
    A: true,
    ASID: asid,
    MAIR0: lo32(mair) >>> 0,
    MAIR1: hi32(mair) >>> 0,
  });
}
