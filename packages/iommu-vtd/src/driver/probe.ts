/**
 * What the unit can do, read from CAP and ECAP (VT-d 11.4.2, 11.4.3), and what the driver makes of it: scalable or legacy
 * mode, the stage that MAP and UNMAP domains use, and whether a process may be bound (H29).
 */
import { hi32, IommuError, lo32, type Mmio } from "@iommukit/core";
import { AddressWidth, bitsOfLevels, levelsOf } from "../spec/page-table.js";
import { CAP, ECAP } from "../spec/registers.js";

/** Which tables MAP and UNMAP write. */
export type Stage = "first" | "second";

/** What the driver has made of CAP and ECAP. */
export interface Features {
  readonly cap: ReturnType<typeof CAP.decode>;
  readonly ecap: ReturnType<typeof ECAP.decode>;
  /** Root table in scalable mode, 256-bit descriptors, PASID tables. */
  readonly scalable: boolean;
  /** Stage of the tables that map and unmap fill. */
  readonly stage: Stage;
  /** AW of second-stage tables and of PASID table entries, and the levels that it means. */
  readonly aw: number;
  readonly levels: number;
  /** Bits of the IOVAs of MAP and UNMAP domains. */
  readonly iovaBits: number;
  /** 4 KiB, 2 MiB, 1 GiB: one bit each. */
  readonly pgsizeBitmap: bigint;
  /** Domain-ids: 0 … n - 1. */
  readonly domainIds: number;
  /** Bits of a PASID; 0 without PASID support. */
  readonly pasidBits: number;
}

/** The command line's part. */
export interface ProbeOptions {
  /** "legacy" keeps a unit that can do scalable mode in legacy mode (intel_iommu=sm_off). */
  readonly mode?: "legacy" | "scalable";
}

/** @throws IommuError ENODEV when the unit lacks what every mode of the driver needs */
export function probe(mmio: Mmio, options: ProbeOptions = {}): Features {
  const cap = CAP.decode(words(mmio.read64(CAP.offset)));
  const ecap = ECAP.decode(words(mmio.read64(ECAP.offset)));
  if (!ecap.QI) throw new IommuError("ENODEV", "ECAP.QI = 0: the unit has no queued invalidation");
  const scalable = options.mode !== "legacy" && ecap.SMTS && (ecap.SSTS || ecap.FSTS);
  if (options.mode === "scalable" && !scalable)
    throw new IommuError(
      "ENODEV",
      `scalable mode was asked for, but ${ecap.SMTS ? "ECAP.SSTS = ECAP.FSTS" : "ECAP.SMTS"} = 0`,
    );
  const stage: Stage = scalable && !ecap.SSTS ? "first" : "second";
  const aw = widest(cap.SAGAW);
  const levels = stage === "second" ? levelsOf(aw) : cap.FS5LP && cap.MGAW + 1 > bitsOfLevels(4) ? 5 : 4;
  // A first stage translates canonical addresses: its upper half is not used for IOVAs.
  const reach = bitsOfLevels(levels) - (stage === "first" ? 1 : 0);
  return {
    cap,
    ecap,
    scalable,
    stage,
    aw,
    levels,
    iovaBits: Math.min(reach, cap.MGAW + 1),
    pgsizeBitmap: pageSizes(cap, stage),
    domainIds: Math.min(2 ** (4 + 2 * cap.ND), 0x1_0000),
    pasidBits: scalable && ecap.PASID ? ecap.PSS + 1 : 0,
  };
}

function words(value: bigint): Int32Array {
  return Int32Array.of(lo32(value), hi32(value));
}

function widest(sagaw: number): number {
  for (const aw of [AddressWidth.AW57, AddressWidth.AW48, AddressWidth.AW39]) if (sagaw & (1 << aw)) return aw;
  throw new IommuError("ENODEV", `CAP.SAGAW = 0x${sagaw.toString(16)}: no second-stage width that the driver knows`);
}

function pageSizes(cap: Features["cap"], stage: Stage): bigint {
  const large = stage === "second" ? (cap.SSLPS & 1) !== 0 : true;
  const huge = stage === "second" ? (cap.SSLPS & 2) !== 0 : cap.FS1GP;
  return 0x1000n | (large ? 0x20_0000n : 0n) | (huge ? 0x4000_0000n : 0n);
}

/**
 * What keeps the unit from sharing address spaces: one sentence per missing bit, none when it can (H29).
 * @param vaBits bits of virtual address that processes use
 */
export function missingForSva({ cap, ecap, scalable }: Features, vaBits = 48): string[] {
  const missing: string[] = [];
  const need = (present: boolean, bit: string, why: string) => {
    if (!present) missing.push(`${bit} = 0: ${why}`);
  };
  need(ecap.SMTS, "ECAP.SMTS", "no scalable mode, so no PASID tables");
  if (ecap.SMTS && !scalable) missing.push("the unit is kept in legacy mode");
  need(ecap.FSTS, "ECAP.FSTS", "no first-stage translation, so process page tables cannot be walked");
  need(ecap.PASID, "ECAP.PASID", "requests with PASID are not supported");
  need(ecap.SMPWCS, "ECAP.SMPWCS", "walks do not see what the CPU has in its caches");
  need(ecap.DT, "ECAP.DT", "no device-TLBs, so no ATS");
  need(cap.FS1GP, "CAP.FS1GP", "processes may use 1 GiB pages");
  if (vaBits > 48) need(cap.FS5LP, "CAP.FS5LP", "processes use five levels of page table");
  return missing;
}
