/** What a function is made of: identity, BARs and capabilities. Presets of devices are values of this type. */
import type { PciBar, PortType } from "@iommukit/core";

export interface MsixOptions {
  readonly vectors: number;
  readonly bar: number;
  /** Byte offsets in that BAR, multiples of 8. */
  readonly table: number;
  readonly pba: number;
}

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

export interface PriOptions {
  /** Outstanding Page Request Capacity. */
  readonly capacity?: number;
  /** PRG Response PASID Required. */
  readonly pasidRequired?: boolean;
  /** Nanoseconds after which an unanswered group fails; 0: never. */
  readonly timeout?: number;
}

export interface PasidOptions {
  /** Bits, at most 20. */
  readonly width?: number;
  readonly execute?: boolean;
  readonly privileged?: boolean;
  /** Translated requests can carry the PASID. */
  readonly translated?: boolean;
}

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
}
