/**
 * What differs between kernels, and between the patch as posted and its intent. Each difference has one name and one
 * line here; a profile is a set of values. Facts about kernels: recorded answers.
 */
import { type FeatureSupport, LOW_POWER_FEATURES } from "./device/feature.js";

/** Defects of the patch as posted, by the name of their entry in the list of known bugs; each is a branch in `bind`. */
export type SeedDefect =
  /** Error path of bind_group unbinds only when more than one device was tried, with whatever PASID stands there. */
  | "S-1"
  /** mm_exit takes iommu->lock: detach waits for mm_exit with that lock held. */
  | "S-2"
  /** A failed init of the second device of a group leaves the first one initialised. */
  | "S-4"
  /** A failed replay on a new group forgets that SVA is enabled there. */
  | "S-5"
  /** A failed re-attach gives EINVAL, whatever it really was. */
  | "S-6"
  /** SVA is enabled and shut down per group, though it is a state of the device. */
  | "S-7"
  /** The container's list keeps the address space without a reference. */
  | "S-9";

/** The differences, each with its value. */
export interface Profile {
  readonly name: string;
  /** VFIO_IOMMU_BIND and UNBIND exist. */
  readonly bind: boolean;
  readonly defects: readonly SeedDefect[];
  /** What makes two domains of one driver compatible: 2018 the `prot` of mappings, since 6.0 whether snooping is enforced. */
  readonly domainMatch: readonly ("prot" | "enforced-coherency")[];
  /** A device whose DMA the IOMMU cannot make coherent is refused when it is bound: mappings are always IOMMU_CACHE (since 5.19). */
  readonly coherentOnly: boolean;
  /**
   * A device for which the firmware wants memory mapped one to one is refused: since 6.6 by every IOMMU when its DMA is claimed (EINVAL),
   * before by Intel's when its group is attached (EPERM).
   */
  readonly refusesDirect: "claim" | "attach";
  /** A range that wraps; EOVERFLOW is answered before any other check of the range. */
  readonly wrapErrno: "EINVAL" | "EOVERFLOW";
  /** SET_CONTAINER with a descriptor that is no container. */
  readonly notContainerErrno: "EINVAL" | "EBADFD";
  /**
   * VFIO_TYPE1_NESTING_IOMMU. "none": no such extension. Else SET_IOMMU gives EINVAL where the driver knows no nesting, and
   * where it does: "driver", stage 2 or what the driver refuses with; "hint", stage 1 where there is no stage 2;
   * "late", EPERM, because this kernel's domains belong to a unit from the start.
   */
  readonly nesting: "none" | "driver" | "hint" | "late";
  /** Alignment of a capability in an info structure. */
  readonly capabilityAlign: 4 | 8;
  /** The padding of vfio_iommu_type1_info is a field: GET_INFO writes as many bytes as were asked for, not whole fields alone. */
  readonly infoHasPadding: boolean;
  /** Kernel bug: a mapping that ends at 2^64 is never found again, neither by overlap checks nor by unmap. */
  readonly losesMappingsAtTop: boolean;
  /** Kernel bug: GET_BITMAP shifts a mapping's stored bitmap in place and clears only as many bits as it has pages. */
  readonly staleDirtyBits: boolean;
  /** VFIO_PCI_ERR_IRQ_INDEX exists for PCI Express devices alone. */
  readonly errorIrqNeedsPcie: boolean;
  /** VFIO_DEVICE_FEATURE: which numbers a plain PCI device knows. */
  readonly features: Readonly<Record<number, FeatureSupport>>;
  /** The shared zero page behind never touched memory is not charged to RLIMIT_MEMLOCK. */
  readonly zeroPageUncharged: boolean;
}

const LINUX_6_12: Profile = {
  name: "linux-6.12",
  bind: false,
  defects: [],
  domainMatch: ["enforced-coherency"],
  coherentOnly: true,
  refusesDirect: "claim",
  wrapErrno: "EINVAL",
  notContainerErrno: "EBADFD",
  nesting: "late",
  capabilityAlign: 8,
  infoHasPadding: true,
  losesMappingsAtTop: true,
  staleDirtyBits: true,
  zeroPageUncharged: false,
  errorIrqNeedsPcie: true,
  features: LOW_POWER_FEATURES,
};

/** Linux 6.12 with the two ioctls of the 2018 series, and without the bugs of either. */
const IOMMUKIT: Profile = {
  ...LINUX_6_12,
  name: "iommukit",
  bind: true,
  domainMatch: ["prot", "enforced-coherency"],
  coherentOnly: false,
  nesting: "driver",
  losesMappingsAtTop: false,
  staleDirtyBits: false,
};

/** For `vfioType1({ profile })`. */
export const PROFILES = {
  iommukit: IOMMUKIT,
  /** The patch as posted, on the kernel around it. */
  seed: {
    ...LINUX_6_12,
    name: "seed",
    bind: true,
    defects: ["S-1", "S-2", "S-4", "S-5", "S-6", "S-7", "S-9"],
    domainMatch: ["prot"],
    coherentOnly: false,
    refusesDirect: "attach",
    nesting: "hint",
    notContainerErrno: "EINVAL",
    capabilityAlign: 4,
    infoHasPadding: false,
    zeroPageUncharged: true,
  },
  "linux-6.1": {
    ...LINUX_6_12,
    name: "linux-6.1",
    refusesDirect: "attach",
    nesting: "hint",
    notContainerErrno: "EINVAL",
    capabilityAlign: 4,
    infoHasPadding: false,
    zeroPageUncharged: true,
  },
  "linux-6.12": LINUX_6_12,
  "linux-7.3": {
    ...LINUX_6_12,
    name: "linux-7.3",
    wrapErrno: "EOVERFLOW",
    nesting: "none",
    losesMappingsAtTop: false,
    errorIrqNeedsPcie: false,
    features: { ...LOW_POWER_FEATURES, 11: "get", 12: "unsupported" },
  },
} as const satisfies Record<string, Profile>;

/** "iommukit", "seed", "linux-6.12", … */
export type ProfileName = keyof typeof PROFILES;
