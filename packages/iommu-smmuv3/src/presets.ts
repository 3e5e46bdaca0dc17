/**
 * Named sets of identification registers and cache sizes. The chip behaves as the bits say; nothing else distinguishes
 * one preset from another.
 */
import { AIDR, IDR0, IDR1, IDR3, IDR5, IIDR } from "./spec/registers.js";

/** Entries of a cache: `sets` × `ways`. */
export interface SetAssociative {
  /** A power of two. */
  readonly sets: number;
  readonly ways: number;
}

/** Sizes of the chip's caches. A cache without sets does not exist: every lookup goes to memory. */
export interface CacheGeometry {
  readonly ste: SetAssociative;
  readonly cd: SetAssociative;
  /** Level 1 descriptors of stream and CD tables. */
  readonly l1: SetAssociative;
  readonly tlb: SetAssociative;
  /** Table descriptors of translation tables. */
  readonly walk: SetAssociative;
  /** An invalid STE or CD is cached as well (5.2.1 permits it), so that forgetting CFGI after making it valid shows. */
  readonly cachesInvalid: boolean;
  /** One TLB entry for a whole contiguous set. */
  readonly contiguousHint: boolean;
}

/** Register values as software reads them. */
export interface Smmuv3Preset {
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  readonly idr0: number;
  readonly idr1: number;
  readonly idr3: number;
  readonly idr5: number;
  readonly iidr: number;
  readonly aidr: number;
  readonly caches: CacheGeometry;
}

const NONE: SetAssociative = { sets: 0, ways: 0 };

/** `-M virt,iommu=smmuv3` of QEMU 11.1: both stages, no substreams, no ATS, no stalls. */
const qemu11Virt: Smmuv3Preset = {
  name: "qemu-11-virt",
  summary: "QEMU 11.1 virt: stage 1, stage 2 and nested, 44-bit addresses, no substreams, ATS, PRI or stalls",
  idr0: IDR0.encode({
    S2P: true,
    S1P: true,
    TTF: "aarch64",
    COHACC: true,
    ASID16: true,
    VMID16: true,
    TTENDIAN: "little",
    STALL_MODEL: "terminate",
    TERM_MODEL: true,
    ST_LEVEL: "twoLevel",
  })[0],
  idr1: IDR1.encode({ SIDSIZE: 16, EVENTQS: 19, CMDQS: 19 })[0],
  idr3: IDR3.encode({ HAD: true, XNX: true, RIL: true, BBML: "level2" })[0],
  idr5: IDR5.encode({ OAS: "bits44", GRAN4K: true, GRAN16K: true, GRAN64K: true })[0],
  iidr: 0,
  aidr: AIDR.encode({ ArchMinorRev: 1 })[0],
  caches: {
    ste: { sets: 64, ways: 4 },
    cd: { sets: 64, ways: 4 },
    l1: NONE,
    tlb: { sets: 64, ways: 4 },
    walk: NONE,
    cachesInvalid: false,
    contiguousHint: false,
  },
};

/** A server part in the manner of Arm's MMU-700: everything that SVA needs, no broadcast TLB maintenance. */
const mmu700Like: Smmuv3Preset = {
  name: "mmu-700-like",
  summary: "A server SMMU: 20-bit SubstreamIDs, ATS, PRI, stalls, hardware access and dirty flags, 48-bit addresses",
  idr0: IDR0.encode({
    S2P: true,
    S1P: true,
    TTF: "aarch64",
    COHACC: true,
    HTTU: "accessAndDirty",
    HYP: true,
    ATS: true,
    ASID16: true,
    MSI: true,
    SEV: true,
    PRI: true,
    VMID16: true,
    CD2L: true,
    TTENDIAN: "little",
    STALL_MODEL: "both",
    ST_LEVEL: "twoLevel",
  })[0],
  idr1: IDR1.encode({ SIDSIZE: 24, SSIDSIZE: 20, PRIQS: 19, EVENTQS: 19, CMDQS: 19, ATTR_PERMS_OVR: true })[0],
  idr3: IDR3.encode({ HAD: true, XNX: true, FWB: true, STT: true, RIL: true, BBML: "level2" })[0],
  idr5: IDR5.encode({ OAS: "bits48", GRAN4K: true, GRAN16K: true, GRAN64K: true, STALL_MAX: 32 })[0],
  iidr: IIDR.encode({ Implementer: 0x43b, ProductID: 0x487 })[0],
  aidr: AIDR.encode({ ArchMinorRev: 2 })[0],
  caches: {
    ste: { sets: 64, ways: 4 },
    cd: { sets: 64, ways: 4 },
    l1: { sets: 16, ways: 4 },
    tlb: { sets: 256, ways: 8 },
    walk: { sets: 32, ways: 4 },
    cachesInvalid: true,
    contiguousHint: true,
  },
};

/** Every feature that the model has. */
const everything: Smmuv3Preset = {
  ...mmu700Like,
  name: "everything",
  summary:
    "Every feature of the model: also 52-bit addresses, broadcast TLB maintenance, VMID wildcards, ATS error records",
  idr0: mmu700Like.idr0 | IDR0.encode({ BTM: true, VMW: true, ATSRECERR: true })[0],
  idr3: mmu700Like.idr3 | IDR3.encode({ E0PD: true, PTWNNC: true })[0],
  idr5: IDR5.encode({ OAS: "bits52", GRAN4K: true, GRAN16K: true, GRAN64K: true, VAX: "bits52", STALL_MAX: 32 })[0],
  aidr: AIDR.encode({ ArchMinorRev: 3 })[0],
};

/** For `smmuv3({ preset })`. */
export type Smmuv3PresetName = "qemu-11-virt" | "mmu-700-like" | "everything";

/** The presets by name; one with a few bits changed is `{ ...PRESETS["mmu-700-like"], idr0 }`. */
export const PRESETS: Readonly<Record<Smmuv3PresetName, Smmuv3Preset>> = {
  "qemu-11-virt": qemu11Virt,
  "mmu-700-like": mmu700Like,
  everything,
};
