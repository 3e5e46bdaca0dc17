/** Builds the configuration space of an endpoint from its options: header, then each capability from its field table. */
import {
  ACS_CAPABILITY,
  ATS_CAPABILITY,
  CapabilityId,
  ExtendedCapabilityId,
  MSI64_CAPABILITY,
  MSI64_MASKED_CAPABILITY,
  MSIX_CAPABILITY,
  PASID_CAPABILITY,
  PCI_EXPRESS_CAPABILITY,
  PRI_CAPABILITY,
  TYPE0_HEADER,
} from "@iommukit/core";
import { ConfigSpace } from "./config-space.js";
import type { FunctionOptions } from "./function-options.js";

/** Byte offsets of what the function has; 0 for what it has not. */
export interface CapabilityOffsets {
  readonly pcie: number;
  readonly msi: number;
  readonly msix: number;
  readonly acs: number;
  readonly ats: number;
  readonly pri: number;
  readonly pasid: number;
}

export const FIRST_BAR_WORD = 4;

/** Vendor, device, class: what both header types begin with. */
export function identity(options: FunctionOptions, multiFunction: boolean) {
  return {
    VendorID: options.vendor,
    DeviceID: options.device,
    ClassCode: options.classCode,
    RevisionID: options.revision ?? 0,
    MultiFunctionDevice: multiFunction,
    InterruptPin: options.interruptPin ?? 0,
  };
}

export function buildEndpointConfig(
  options: FunctionOptions,
  multiFunction: boolean,
): [ConfigSpace, CapabilityOffsets] {
  const config = new ConfigSpace(options.conventional ? 256 : 4096);
  config.place(TYPE0_HEADER, 0, {
    ...identity(options, multiFunction),
    SubsystemVendorID: options.subsystemVendor ?? options.vendor,
    SubsystemID: options.subsystem ?? options.device,
  });
  for (let index = 0; index < 6; index++) config.removeBar(FIRST_BAR_WORD + index);
  config.removeBar(0x30 / 4);
  for (const bar of options.bars ?? []) config.placeBar(bar.index === 6 ? 0x30 / 4 : FIRST_BAR_WORD + bar.index, bar);
  return [config, addCapabilities(config, options)];
}

/** Adds every capability that the options name. */
export function addCapabilities(config: ConfigSpace, options: FunctionOptions): CapabilityOffsets {
  const { msi, msix, acs, ats, pri, pasid } = options;
  const standard = {
    pcie: options.conventional ? 0 : addPciExpress(config, options),
    msi: msi
      ? config.add(msi.maskable ? MSI64_MASKED_CAPABILITY : MSI64_CAPABILITY, CapabilityId.MSI, {
          MultipleMessageCapable: msi.vectorsLog2,
          AddressCapable64Bit: true,
          PerVectorMaskingCapable: msi.maskable,
        })
      : 0,
    msix: msix
      ? config.add(MSIX_CAPABILITY, CapabilityId.MSIX, {
          TableSize: msix.vectors - 1,
          TableBIR: msix.bar,
          TableOffset: msix.table / 8,
          PBABIR: msix.bar,
          PBAOffset: msix.pba / 8,
        })
      : 0,
  };
  return {
    ...standard,
    acs: acs ? addAcs(config, acs.supported, acs.enabled ?? acs.supported) : 0,
    ats: ats
      ? config.addExtended(ATS_CAPABILITY, ExtendedCapabilityId.ATS, {
          InvalidateQueueDepth: (ats.queueDepth ?? 32) % 32,
          PageAlignedRequest: ats.pageAligned ?? true,
          GlobalInvalidateSupported: ats.globalInvalidate ?? true,
        })
      : 0,
    pri: pri
      ? config.addExtended(PRI_CAPABILITY, ExtendedCapabilityId.PRI, {
          OutstandingPageRequestCapacity: pri.capacity ?? 512,
          PRGResponsePASIDRequired: pri.pasidRequired ?? true,
        })
      : 0,
    pasid: pasid
      ? config.addExtended(PASID_CAPABILITY, ExtendedCapabilityId.PASID, {
          MaxPASIDWidth: pasid.width ?? 20,
          ExecutePermissionSupported: pasid.execute ?? false,
          PrivilegedModeSupported: pasid.privileged ?? true,
          TranslatedRequestsWithPASIDSupported: pasid.translated ?? false,
        })
      : 0,
  };
}

function addPciExpress(config: ConfigSpace, options: FunctionOptions): number {
  const type = options.portType ?? "root complex integrated endpoint";
  const linked = type !== "root complex integrated endpoint";
  const prefixes = options.tlpPrefixes ?? options.pasid !== undefined;
  return config.add(PCI_EXPRESS_CAPABILITY, CapabilityId.PCI_EXPRESS, {
    CapabilityVersion: 2,
    DevicePortType: type,
    RoleBasedErrorReporting: true,
    ExtendedTagFieldSupported: true,
    MaxPayloadSizeSupported: 1,
    FunctionLevelResetCapability: options.functionLevelReset ?? false,
    ExtendedFmtFieldSupported: prefixes,
    EndEndTLPPrefixSupported: prefixes,
    MaxEndEndTLPPrefixes: prefixes ? 1 : 0,
    CompletionTimeoutDisableSupported: true,
    ...(linked
      ? {
          MaxLinkSpeed: 4,
          MaximumLinkWidth: 16,
          CurrentLinkSpeed: 4,
          NegotiatedLinkWidth: 16,
          SupportedLinkSpeedsVector: 0xf,
          TargetLinkSpeed: 4,
        }
      : {}),
  });
}

function addAcs(config: ConfigSpace, supported: number, enabled: number): number {
  const flags = [
    "SourceValidation",
    "TranslationBlocking",
    "P2PRequestRedirect",
    "P2PCompletionRedirect",
    "UpstreamForwarding",
    "P2PEgressControl",
    "DirectTranslatedP2P",
  ] as const;
  const values: Record<string, boolean> = {};
  for (const [bit, name] of flags.entries()) {
    values[name] = ((supported >> bit) & 1) === 1;
    values[`${name}Enable`] = ((supported & enabled) >> bit) % 2 === 1;
  }
  return config.addExtended(ACS_CAPABILITY, ExtendedCapabilityId.ACS, values);
}
