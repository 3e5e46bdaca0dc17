/**
 * Named sets of capability registers and cache sizes. The model does what the bits say; VER, CAP and ECAP are all that a
 * driver sees of a preset.
 */
import type { Encodable } from "@iommukit/core";
import { CAP, ECAP } from "./spec/registers.js";

/** Entries of each cache, powers of two; `iotlb` and `pagingStructure` are 4-way. */
export interface CacheSizes {
  readonly context: number;
  readonly pasid: number;
  readonly iotlb: number;
  readonly pagingStructure: number;
  readonly interruptEntry: number;
}

/** Register values as software reads them. */
export interface VtdPreset {
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** Major and minor version. */
  readonly version: readonly [number, number];
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Host address width in bits, as the DMAR table of the firmware reports it. */
  readonly hostAddressWidth: number;
  readonly caches: CacheSizes;
  /** Later faults of a source-id that has a pending record are not recorded (7.2.1). */
  readonly faultCompression: boolean;
  /** Nanoseconds until a device-TLB invalidation without completion is an error; PCIe says 60 s. */
  readonly invalidationTimeout: number;
}

function bits(table: typeof CAP | typeof ECAP, values: Readonly<Record<string, number>>): bigint {
  const words = (table as typeof CAP).encode(values as Encodable<(typeof CAP)["specs"]>);
  return (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0);
}

const SECOND = 1_000_000_000;

/** What QEMU 11's intel-iommu offers. */
export const qemu11Q35: VtdPreset = {
  name: "qemu-11-q35",
  summary: "intel-iommu of QEMU 11 on q35 with aw-bits=48: legacy mode, 3 and 4 levels, one fault record",
  version: [1, 0],
  cap: 0x80d2_008c_222f_0606n,
  ecap: 0xf0_0f4an,
  hostAddressWidth: 48,
  caches: { context: 64, pasid: 64, iotlb: 1024, pagingStructure: 64, interruptEntry: 64 },
  faultCompression: true,
  invalidationTimeout: 60 * SECOND,
};

const MODERN_CAP = {
  ND: 6,
  SAGAW: 0b01100,
  MGAW: 56,
  ZLR: 1,
  FRO: 0x40,
  SSLPS: 0b11,
  PSI: 1,
  MAMV: 45,
  DWD: 1,
  DRD: 1,
  FS1GP: 1,
  FS5LP: 1,
  ESIRTPS: 1,
  ESRTPS: 1,
} as const;

const MODERN_ECAP = {
  C: 1,
  QI: 1,
  DT: 1,
  IR: 1,
  EIM: 1,
  PT: 1,
  SC: 1,
  IRO: 0x50,
  MHMV: 15,
  NEST: 1,
  PRS: 1,
  SRS: 1,
  NWFS: 1,
  EAFS: 1,
  PSS: 19,
  PASID: 1,
  DIT: 1,
  PDS: 1,
  SMTS: 1,
  SSADS: 1,
  SSTS: 1,
  FSTS: 1,
  SMPWCS: 1,
  RPS: 1,
} as const;

/** The default: scalable mode, PASID, ATS and PRI, as servers have it. */
export const sapphireRapidsLike: VtdPreset = {
  name: "sapphire-rapids-like",
  summary:
    "a server of 2023: scalable mode, first stage of 4 and 5 levels, nesting, PASIDs, page requests, device-TLBs",
  version: [6, 0],
  cap: bits(CAP, { ...MODERN_CAP, PLMR: 1, PHMR: 1 }),
  ecap: bits(ECAP, MODERN_ECAP),
  hostAddressWidth: 52,
  caches: { context: 64, pasid: 128, iotlb: 1024, pagingStructure: 128, interruptEntry: 128 },
  faultCompression: false,
  invalidationTimeout: 60 * SECOND,
};

/** Every capability that is modelled. */
export const everything: VtdPreset = {
  name: "everything",
  summary: "every feature that the model has, 3 to 5 levels, eight fault records",
  version: [5, 0],
  cap: bits(CAP, { ...MODERN_CAP, PLMR: 1, PHMR: 1, SAGAW: 0b01110, NFR: 7 }),
  ecap: bits(ECAP, { ...MODERN_ECAP, ERS: 1, ADMS: 1, RPRIVS: 1, SMS: 1 }),
  hostAddressWidth: 52,
  caches: { context: 256, pasid: 256, iotlb: 4096, pagingStructure: 256, interruptEntry: 256 },
  faultCompression: false,
  invalidationTimeout: 60 * SECOND,
};

/** For `vtd({ preset })`. */
export type VtdPresetName = "qemu-11-q35" | "sapphire-rapids-like" | "everything";

/** The presets by name. */
export const PRESETS: Readonly<Record<VtdPresetName, VtdPreset>> = {
  "qemu-11-q35": qemu11Q35,
  "sapphire-rapids-like": sapphireRapidsLike,
  everything,
};
