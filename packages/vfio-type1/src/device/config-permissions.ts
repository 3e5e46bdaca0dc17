/**
 * What a program may do to each bit of configuration space: vfio_pci_config.c's perm_bits, by the names of the fields. A
 * field is virtual (the program sees VFIO's copy), writable, or both: virtual and writable changes the copy alone, writable
 * alone changes the device. What no rule names is read from the device and cannot be written.
 */
import {
  type AnyLayout,
  CapabilityId,
  MSI64_MASKED_CAPABILITY,
  PCI_EXPRESS_CAPABILITY,
  POWER_MANAGEMENT_CAPABILITY,
  TYPE0_HEADER,
} from "@iommukit/core";

type Rule = "virtual" | "virtual-write" | "write";

/** Masks per dword of a structure. */
export interface Permissions {
  readonly virt: Int32Array;
  readonly write: Int32Array;
}

function permissions(table: AnyLayout, rules: Readonly<Record<string, Rule>>): Permissions {
  const virt = new Int32Array(table.words);
  const write = new Int32Array(table.words);
  for (const [name, rule] of Object.entries(rules)) {
    const field = table.field(name);
    if (rule !== "write") field.setPair(virt, 0, -1, -1);
    if (rule !== "virtual") field.setPair(write, 0, -1, -1);
  }
  return { virt, write };
}

const NEXT = { NextCapabilityPointer: "virtual" } as const;

const HEADER: Readonly<Record<string, Rule>> = {
  VendorID: "virtual",
  DeviceID: "virtual",
  IOSpaceEnable: "write",
  MemorySpaceEnable: "write",
  BusMasterEnable: "write",
  SpecialCycleEnable: "write",
  MemoryWriteAndInvalidate: "write",
  VGAPaletteSnoop: "write",
  ParityErrorResponse: "write",
  IDSELSteppingWaitCycleControl: "write",
  SERREnable: "write",
  FastBackToBackTransactionsEnable: "write",
  // VFIO masks INTx by it, and lets the program mask it too.
  InterruptDisable: "virtual-write",
  CapabilitiesList: "virtual",
  CacheLineSize: "write",
  LatencyTimer: "write",
  BIST: "write",
  BAR0: "virtual-write",
  BAR1: "virtual-write",
  BAR2: "virtual-write",
  BAR3: "virtual-write",
  BAR4: "virtual-write",
  BAR5: "virtual-write",
  ExpansionROMBaseAddress: "virtual-write",
  CapabilitiesPointer: "virtual",
  InterruptLine: "virtual-write",
  InterruptPin: "virtual",
};

export const HEADER_PERMISSIONS = permissions(TYPE0_HEADER, HEADER);

/** A VF's memory space is its physical function's to enable; the program has a bit of its own. */
export const VF_HEADER_PERMISSIONS = permissions(TYPE0_HEADER, { ...HEADER, MemorySpaceEnable: "virtual-write" });

/** MSI is VFIO's to enable and to aim; the program sees what it wrote. */
const MSI: Readonly<Record<string, Rule>> = {
  ...NEXT,
  MSIEnable: "virtual-write",
  MultipleMessageCapable: "virtual",
  MultipleMessageEnable: "virtual-write",
  AddressCapable64Bit: "virtual",
  PerVectorMaskingCapable: "virtual",
  MessageAddress: "virtual-write",
  MessageUpperAddress: "virtual-write",
  MessageData: "virtual-write",
  MaskBits: "write",
};

/** By capability id. Capabilities that are not here are read from the device and cannot be written: MSI-X and all extended ones. */
export const CAPABILITY_PERMISSIONS: ReadonlyMap<number, Permissions> = new Map([
  [
    CapabilityId.POWER_MANAGEMENT,
    permissions(POWER_MANAGEMENT_CAPABILITY, {
      ...NEXT,
      PMESupport: "virtual",
      PowerState: "write",
      PMEEnable: "virtual",
      PMEStatus: "virtual",
      DataSelect: "write",
    }),
  ],
  [CapabilityId.MSI, permissions(MSI64_MASKED_CAPABILITY, MSI)],
  [
    CapabilityId.PCI_EXPRESS,
    permissions(PCI_EXPRESS_CAPABILITY, {
      ...NEXT,
      CorrectableErrorReportingEnable: "write",
      NonFatalErrorReportingEnable: "write",
      FatalErrorReportingEnable: "write",
      UnsupportedRequestReportingEnable: "write",
      EnableRelaxedOrdering: "write",
      // The fabric's payload size is the kernel's; a function level reset is VFIO's to do, with the state saved.
      MaxPayloadSize: "virtual-write",
      ExtendedTagFieldEnable: "write",
      AuxPowerPMEnable: "write",
      EnableNoSnoop: "write",
      MaxReadRequestSize: "write",
      InitiateFunctionLevelReset: "virtual-write",
      CorrectableErrorDetected: "write",
      NonFatalErrorDetected: "write",
      FatalErrorDetected: "write",
      UnsupportedRequestDetected: "write",
    }),
  ],
]);
