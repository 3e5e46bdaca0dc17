/** What a function is made of: identity, BARs and capabilities. Presets of devices are values of this type. */
import type {
  Encodable,
  FieldSpecs,
  Layout,
  PCI_EXPRESS_CAPABILITY,
  PciBar,
  POWER_MANAGEMENT_CAPABILITY,
  PortType,
} from "@iommukit/core";

/** Capabilities below 0x100. */
export type StandardCapability = "pm" | "pcie" | "msi" | "msix";

/** An extended capability without behaviour of its own. */
export interface FurtherCapability {
  readonly table: Layout<FieldSpecs>;
  readonly id: number;
  readonly values: Encodable<FieldSpecs>;
  readonly version: number;
  /** Byte offset; the next free one when absent. */
  readonly at?: number;
}

/** The SR-IOV capability. */
export interface SriovOptions {
  readonly totalVfs: number;
  /** Memory BARs of each VF. */
  readonly bars?: readonly PciBar[];
  /** Device ID of the VFs; the function's own when absent. */
  readonly device?: number;
  /** Routing id of VF n: the PF's + firstOffset + (n - 1) × stride. Defaults: 1, 1. */
  readonly firstOffset?: number;
  readonly stride?: number;
}

/** The MSI-X capability, and where its table is. */
export interface MsixOptions {
  readonly vectors: number;
  readonly bar: number;
  /** Byte offsets in that BAR, multiples of 8. */
  readonly table: number;
  readonly pba: number;
}

/** The ATS capability, and the cache behind it. */
export interface AtsOptions {
  /** Invalidate Queue Depth, 1 to 32. */
  readonly queueDepth?: number;
  readonly pageAligned?: boolean;
  readonly globalInvalidate?: boolean;
  /** Geometry of the Address Translation Cache. */
  readonly sets?: number;
  readonly ways?: number;
  /** Invalidate completions per request, 1 to 8. */
  readonly completions?: number;
  /** Nanoseconds that an invalidation takes. */
  readonly completionDelay?: number;
}

/** The Page Request capability. */
export interface PriOptions {
  /** Outstanding Page Request Capacity. */
  readonly capacity?: number;
  /** PRG Response PASID Required. */
  readonly pasidRequired?: boolean;
  /** Nanoseconds after which an unanswered group fails; 0: never. */
  readonly timeout?: number;
}

/** The PASID capability. */
export interface PasidOptions {
  /** Bits, at most 20. */
  readonly width?: number;
  readonly execute?: boolean;
  readonly privileged?: boolean;
  /** Translated requests can carry the PASID. */
  readonly translated?: boolean;
}

/** For PciDevice's constructor. A capability that is absent is not there. */
export interface FunctionOptions {
  readonly vendor: number;
  readonly device: number;
  /** Base class, sub-class, programming interface: 0xBBSSPP. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  readonly bars?: readonly PciBar[];
  /** INTA to INTD as 1 to 4; 0 for none. */
  readonly interruptPin?: number;
  /** A conventional PCI function has no PCI Express capability and 256 bytes of configuration space. */
  readonly conventional?: boolean;
  readonly portType?: keyof typeof PortType;
  readonly functionLevelReset?: boolean;
  /** End-end TLP prefixes, which carry PASIDs, pass. Default: when it has PASIDs, or is a bridge. */
  readonly tlpPrefixes?: boolean;
  /** log2 of the MSI vectors, and whether they can be masked. */
  readonly msi?: { readonly vectorsLog2: number; readonly maskable: boolean };
  readonly msix?: MsixOptions;
  /** Acs bits that are supported, and those that firmware has enabled (default: all supported). */
  readonly acs?: { readonly supported: number; readonly enabled?: number };
  readonly ats?: AtsOptions;
  readonly pri?: PriOptions;
  readonly pasid?: PasidOptions;
  readonly sriov?: SriovOptions;
  /** Present when the function has power management; values of its registers. */
  readonly powerManagement?: Parameters<(typeof POWER_MANAGEMENT_CAPABILITY)["encode"]>[0];
  /** Registers of the PCI Express capability that differ from the usual ones. */
  readonly pcie?: Parameters<(typeof PCI_EXPRESS_CAPABILITY)["encode"]>[0];
  /** Order of the capabilities in the list, and their offsets where they are not simply one after the other. */
  readonly standardOrder?: readonly (readonly [StandardCapability, number?])[];
  readonly furtherExtended?: readonly FurtherCapability[];
}
