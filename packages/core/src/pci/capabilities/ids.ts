/** Capability ids that have tables here (PCI Code and ID Assignment Specification). */

export const CapabilityId = { POWER_MANAGEMENT: 0x01, MSI: 0x05, PCI_EXPRESS: 0x10, MSIX: 0x11 } as const;

/** For findExtendedCapability. */
export const ExtendedCapabilityId = { ACS: 0x0d, ATS: 0x0f, SRIOV: 0x10, PRI: 0x13, PASID: 0x1b } as const;
