/** Address Translation Services from the kernel's side: pci_enable_ats and its neighbours of drivers/pci/ats.c (I2, I5). */
import { IommuError } from "../kernel/errno.js";
import { ATS_CAPABILITY } from "./capabilities/ats.js";
import { ExtendedCapabilityId } from "./capabilities/ids.js";
import { readField, writeField } from "./config-field.js";
import { findExtendedCapability, type PciFunction } from "./pci-function.js";

/** log2 of the smallest unit that the STU field can say. */
const PCI_ATS_MIN_STU = 12;
const PCI_ATS_MAX_QDEP = 32;

/** The function has the capability and is not an untrusted one (an external port). */
export function pciAtsSupported(pci: PciFunction): boolean {
  return findExtendedCapability(pci, ExtendedCapabilityId.ATS) !== 0 && pci.untrusted !== true;
}

/** Whether ATSCtl.Enable is set; false without the capability. */
export function pciAtsEnabled(pci: PciFunction): boolean {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.ATS);
  return at !== 0 && readField(pci, at, ATS_CAPABILITY.Enable) === 1;
}

/**
 * Sets the Smallest Translation Unit of a physical function so that its VFs can enable ATS although the PF does not.
 * @throws IommuError EINVAL unsupported, or a page shift below 12; EBUSY already enabled
 */
export function pciPrepareAts(pci: PciFunction, pageShift: number): void {
  const at = usableAts(pci, pageShift);
  if (pci.physicalFunction) return;
  writeField(pci, at, ATS_CAPABILITY.STU, pageShift - PCI_ATS_MIN_STU);
}

/**
 * @param pageShift log2 of the smallest page of the IOMMU: the STU
 * @throws IommuError EINVAL unsupported, untrusted, a page shift below 12, or a VF whose PF has another STU; EBUSY already enabled
 */
export function pciEnableAts(pci: PciFunction, pageShift: number): void {
  const at = usableAts(pci, pageShift);
  const { physicalFunction } = pci;
  if (physicalFunction) {
    const stu = readField(
      physicalFunction,
      findExtendedCapability(physicalFunction, ExtendedCapabilityId.ATS),
      ATS_CAPABILITY.STU,
    );
    if (stu + PCI_ATS_MIN_STU !== pageShift) {
      throw new IommuError(
        "EINVAL",
        `${pci.bdf}: STU 2^${pageShift}, its physical function ${physicalFunction.bdf} has 2^${stu + PCI_ATS_MIN_STU}`,
      );
    }
  } else {
    writeField(pci, at, ATS_CAPABILITY.STU, pageShift - PCI_ATS_MIN_STU);
  }
  writeField(pci, at, ATS_CAPABILITY.Enable, 1);
}

function usableAts(pci: PciFunction, pageShift: number): number {
  if (!pciAtsSupported(pci))
    throw new IommuError("EINVAL", `${pci.bdf} has no ATS${pci.untrusted ? " that may be trusted" : ""}`);
  const at = findExtendedCapability(pci, ExtendedCapabilityId.ATS);
  if (readField(pci, at, ATS_CAPABILITY.Enable) === 1)
    throw new IommuError("EBUSY", `ATS of ${pci.bdf} is enabled already`);
  if (pageShift < PCI_ATS_MIN_STU)
    throw new IommuError("EINVAL", `${pci.bdf}: STU 2^${pageShift} is below 2^${PCI_ATS_MIN_STU}`);
  return at;
}

/** No effect when it is not enabled. The function forgets all translations. */
export function pciDisableAts(pci: PciFunction): void {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.ATS);
  if (at !== 0) writeField(pci, at, ATS_CAPABILITY.Enable, 0);
}

/** Invalidate requests that may be outstanding, 1 to 32; 0 for a VF, which shares its PF's queue. @throws IommuError EINVAL without ATS */
export function pciAtsQueueDepth(pci: PciFunction): number {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.ATS);
  if (at === 0) throw new IommuError("EINVAL", `${pci.bdf} has no ATS`);
  if (pci.physicalFunction) return 0;
  return readField(pci, at, ATS_CAPABILITY.InvalidateQueueDepth) || PCI_ATS_MAX_QDEP;
}

/** Whether its translation requests are always aligned to 4 KiB. Linux enables PRI behind VT-d only for such functions. */
export function pciAtsPageAligned(pci: PciFunction): boolean {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.ATS);
  return at !== 0 && readField(pci, at, ATS_CAPABILITY.PageAlignedRequest) === 1;
}
