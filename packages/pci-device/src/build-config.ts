/** Builds the configuration space of an endpoint from its options: header, then each capability from its field table. */
import {
  ACS_CAPABILITY,
  ATS_CAPABILITY,
  CapabilityId,
  ExtendedCapabilityId,
  MSI64_CAPABILITY,
  MSI64_MASKED_CAPABILITY,
  MSIX_CAPABILITY,
  PAGE_SIZE,
  PASID_CAPABILITY,
  PCI_EXPRESS_CAPABILITY,
  PCI_EXPRESS_CAPABILITY_V1,
  POWER_MANAGEMENT_CAPABILITY,
  PRI_CAPABILITY,
  SRIOV_CAPABILITY,
  TYPE0_HEADER,
} from "@iommukit/core";
import { ConfigSpace } from "./config-space.js";
import type { FunctionOptions, StandardCapability } from "./function-options.js";

/** Byte offsets of what the function has; 0 for what it has not. */
export type CapabilityOffsets = Readonly<
  Record<StandardCapability | "acs" | "ats" | "pri" | "pasid" | "sriov", number>
>;

export const FIRST_BAR_WORD = 4;
const ROM_WORD = 0x30 / 4;
/** Byte offset of the VF BARs in the SR-IOV capability. */
export const VF_BARS = 0x24;
const MSI_MASK_BITS = 0x10;

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

/** @param virtual a VF's: without identity, BARs and what is set once for all VFs in the physical function */
export function buildEndpointConfig(
  options: FunctionOptions,
  multiFunction: boolean,
  virtual = false,
): [ConfigSpace, CapabilityOffsets] {
  const config = new ConfigSpace(options.conventional ? 256 : 4096);
  config.place(TYPE0_HEADER, 0, {
    ...identity(options, multiFunction),
    SubsystemVendorID: options.subsystemVendor ?? options.vendor,
    SubsystemID: options.subsystem ?? options.device,
  });
  for (let index = 0; index < 6; index++) config.removeBar(FIRST_BAR_WORD + index);
  config.removeBar(ROM_WORD);
  if (virtual) {
    const offsets = addCapabilities(config, options);
    hardwireVirtual(config, offsets);
    return [config, offsets];
  }
  for (const bar of options.bars ?? []) {
    if (bar.index === 6) config.placeRom(ROM_WORD, bar.size);
    else config.placeBar(FIRST_BAR_WORD + bar.index, bar);
  }
  return [config, addCapabilities(config, options)];
}

/** Command bits of a VF: Bus Master Enable only. */
const VF_COMMAND = 4;
const FLR = 0x8000;

/** Fields that a VF does not have read as zero, its ids as all ones: software takes both from the physical function (9.3.4.1). */
function hardwireVirtual(config: ConfigSpace, { pcie }: CapabilityOffsets): void {
  config.hardwire(TYPE0_HEADER, 0, { VendorID: 0xffff, DeviceID: 0xffff, InterruptPin: 0 });
  config.lock(4, 0xffff & ~VF_COMMAND);
  for (const at of [0xc, 0x3c]) config.lock(at, -1);
  // Payload and request sizes, ordering, error reporting, the link: Device Control, Link Control, Device Control 2.
  config.lock(pcie + 8, 0xffff & ~FLR);
  config.lock(pcie + 0x10, 0xffff);
  config.lock(pcie + 0x28, 0xffff);
  config.hardwire(PCI_EXPRESS_CAPABILITY, pcie, { EnableRelaxedOrdering: 0, EnableNoSnoop: 0, MaxReadRequestSize: 0 });
}

/** Adds every capability that the options name. */
export function addCapabilities(config: ConfigSpace, options: FunctionOptions): CapabilityOffsets {
  const offsets = { ...addStandard(config, options), acs: 0, ats: 0, pri: 0, pasid: 0, sriov: 0 };
  const { acs, ats, pri, pasid, sriov } = options;
  for (const capability of options.furtherExtended ?? []) {
    const { table, id, values, version, at } = capability;
    config.addExtended(table, id, values, version, at);
  }
  if (acs) offsets.acs = addAcs(config, acs.supported, acs.enabled ?? acs.supported);
  if (ats) {
    offsets.ats = config.addExtended(ATS_CAPABILITY, ExtendedCapabilityId.ATS, {
      InvalidateQueueDepth: (ats.queueDepth ?? 32) % 32,
      PageAlignedRequest: ats.pageAligned ?? true,
      GlobalInvalidateSupported: ats.globalInvalidate ?? true,
    });
  }
  if (pri) {
    offsets.pri = config.addExtended(PRI_CAPABILITY, ExtendedCapabilityId.PRI, {
      OutstandingPageRequestCapacity: pri.capacity ?? 512,
      PRGResponsePASIDRequired: pri.pasidRequired ?? true,
    });
  }
  if (pasid) {
    offsets.pasid = config.addExtended(PASID_CAPABILITY, ExtendedCapabilityId.PASID, {
      MaxPASIDWidth: pasid.width ?? 20,
      ExecutePermissionSupported: pasid.execute ?? false,
      PrivilegedModeSupported: pasid.privileged ?? true,
      TranslatedRequestsWithPASIDSupported: pasid.translated ?? false,
    });
  }
  if (sriov) {
    offsets.sriov = config.addExtended(SRIOV_CAPABILITY, ExtendedCapabilityId.SRIOV, {
      InitialVFs: sriov.totalVfs,
      TotalVFs: sriov.totalVfs,
      FirstVFOffset: sriov.firstOffset ?? 1,
      VFStride: sriov.stride ?? 1,
      VFDeviceID: sriov.device ?? options.device,
      SupportedPageSizes: 0x553,
    });
    const vfBars = (offsets.sriov + VF_BARS) / 4;
    for (let bar = 0; bar < 6; bar++) config.removeBar(vfBars + bar);
    for (const bar of sriov.bars ?? [])
      config.placeBar(vfBars + bar.index, { ...bar, size: Math.max(bar.size, PAGE_SIZE) });
  }
  return offsets;
}

const DEFAULT_ORDER = [["pm"], ["pcie"], ["msi"], ["msix"]] as const satisfies FunctionOptions["standardOrder"];

function addStandard(config: ConfigSpace, options: FunctionOptions): Record<StandardCapability, number> {
  const offsets = { pm: 0, pcie: 0, msi: 0, msix: 0 };
  for (const [kind, at] of options.standardOrder ?? DEFAULT_ORDER) offsets[kind] = addOne(config, options, kind, at);
  return offsets;
}

function addOne(config: ConfigSpace, options: FunctionOptions, kind: StandardCapability, at?: number): number {
  const { msi, msix } = options;
  switch (kind) {
    case "pcie":
      return options.conventional ? 0 : addPciExpress(config, options, at);
    case "pm":
      if (!options.powerManagement) return 0;
      return config.add(POWER_MANAGEMENT_CAPABILITY, CapabilityId.POWER_MANAGEMENT, options.powerManagement, at);
    case "msi": {
      if (!msi) return 0;
      const values = {
        MultipleMessageCapable: msi.vectorsLog2,
        AddressCapable64Bit: true,
        PerVectorMaskingCapable: msi.maskable,
      };
      const table = msi.maskable ? MSI64_MASKED_CAPABILITY : MSI64_CAPABILITY;
      const offset = config.add(table, CapabilityId.MSI, values, at);
      // Vectors that the function does not have cannot be masked.
      if (msi.maskable && msi.vectorsLog2 < 5) config.lock(offset + MSI_MASK_BITS, -1 << (1 << msi.vectorsLog2));
      return offset;
    }
    case "msix": {
      if (!msix) return 0;
      const { bar: TableBIR, bar: PBABIR } = msix;
      const place = { TableBIR, TableOffset: msix.table / 8, PBABIR, PBAOffset: msix.pba / 8 };
      return config.add(MSIX_CAPABILITY, CapabilityId.MSIX, { TableSize: msix.vectors - 1, ...place }, at);
    }
    default:
      return kind satisfies never;
  }
}

/** A link of 16 lanes at 16 GT/s. */
const LINK = {
  MaxLinkSpeed: 4,
  MaximumLinkWidth: 16,
  CurrentLinkSpeed: 4,
  NegotiatedLinkWidth: 16,
  SupportedLinkSpeedsVector: 0xf,
  TargetLinkSpeed: 4,
};

function addPciExpress(config: ConfigSpace, options: FunctionOptions, at?: number): number {
  const type = options.portType ?? "root complex integrated endpoint";
  const prefixes = options.tlpPrefixes ?? options.pasid !== undefined;
  const values = {
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
    ...(type === "root complex integrated endpoint" ? {} : LINK),
    ...options.pcie,
  };
  if (values.CapabilityVersion === 1) {
    const known = Object.entries(values).filter(([name]) => name in PCI_EXPRESS_CAPABILITY_V1);
    return config.add(PCI_EXPRESS_CAPABILITY_V1, CapabilityId.PCI_EXPRESS, Object.fromEntries(known), at);
  }
  return config.add(PCI_EXPRESS_CAPABILITY, CapabilityId.PCI_EXPRESS, values, at);
}

const ACS_FLAGS = [
  "SourceValidation",
  "TranslationBlocking",
  "P2PRequestRedirect",
  "P2PCompletionRedirect",
  "UpstreamForwarding",
  "P2PEgressControl",
  "DirectTranslatedP2P",
] as const;

function addAcs(config: ConfigSpace, supported: number, enabled: number): number {
  const values: Record<string, boolean> = {};
  for (const [bit, name] of ACS_FLAGS.entries()) {
    values[name] = ((supported >> bit) & 1) === 1;
    values[`${name}Enable`] = ((supported & enabled) >> bit) % 2 === 1;
  }
  return config.addExtended(ACS_CAPABILITY, ExtendedCapabilityId.ACS, values);
}
