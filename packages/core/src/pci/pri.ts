/** Page Request Interface from the kernel's side: pci_enable_pri and its neighbours of drivers/pci/ats.c (I3, I5). */
import { IommuError } from "../kernel/errno.js";
import { ExtendedCapabilityId } from "./capabilities/ids.js";
import { PRI_CAPABILITY } from "./capabilities/pri.js";
import { readField, writeField } from "./config-field.js";
import { findExtendedCapability, type PciFunction } from "./pci-function.js";

/** VFs have no PRI of their own: they share their physical function's (PCIe 9.3.7.11). */
function owner(pci: PciFunction): PciFunction {
  return pci.physicalFunction ?? pci;
}

/** Whether the function, or the physical function of a VF, has the capability. */
export function pciPriSupported(pci: PciFunction): boolean {
  return findExtendedCapability(owner(pci), ExtendedCapabilityId.PRI) !== 0;
}

/** Whether PRICtl.Enable is set; false without the capability. */
export function pciPriEnabled(pci: PciFunction): boolean {
  const at = findExtendedCapability(owner(pci), ExtendedCapabilityId.PRI);
  return at !== 0 && readField(owner(pci), at, PRI_CAPABILITY.Enable) === 1;
}

/**
 * Gives the function credits for outstanding page requests and enables it.
 * @param reqs credits; the function's capacity bounds them. @returns the credits given
 * @throws IommuError EINVAL no PRI, or a VF whose PF has not enabled it; EBUSY already enabled, or not yet stopped
 */
export function pciEnablePri(pci: PciFunction, reqs: number): number {
  if (pci.physicalFunction) {
    if (!pciPriEnabled(pci))
      throw new IommuError("EINVAL", `${pci.bdf} shares the PRI of ${pci.physicalFunction.bdf}, which is not enabled`);
    return readField(
      pci.physicalFunction,
      priOf(pci.physicalFunction),
      PRI_CAPABILITY.OutstandingPageRequestAllocation,
    );
  }
  const at = priOf(pci);
  if (readField(pci, at, PRI_CAPABILITY.Enable) === 1)
    throw new IommuError("EBUSY", `PRI of ${pci.bdf} is enabled already`);
  if (readField(pci, at, PRI_CAPABILITY.Stopped) === 0)
    throw new IommuError("EBUSY", `PRI of ${pci.bdf} still has requests outstanding`);
  const credits = Math.min(reqs, readField(pci, at, PRI_CAPABILITY.OutstandingPageRequestCapacity));
  writeField(pci, at, PRI_CAPABILITY.OutstandingPageRequestAllocation, credits);
  writeField(pci, at, PRI_CAPABILITY.Enable, 1);
  return credits;
}

/** No effect on a VF, and when it is not enabled. Outstanding requests go on; Stopped is set when the last is answered. */
export function pciDisablePri(pci: PciFunction): void {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.PRI);
  if (at !== 0 && !pci.physicalFunction) writeField(pci, at, PRI_CAPABILITY.Enable, 0);
}

/** Forgets outstanding requests and errors. No effect on a VF. @throws IommuError EINVAL no PRI; EBUSY enabled */
export function pciResetPri(pci: PciFunction): void {
  if (pci.physicalFunction) return;
  const at = priOf(pci);
  if (readField(pci, at, PRI_CAPABILITY.Enable) === 1)
    throw new IommuError("EBUSY", `PRI of ${pci.bdf} is enabled: disable it before a reset`);
  writeField(pci, at, PRI_CAPABILITY.Reset, 1);
}

/** Whether PRG responses to the function must carry the PASID of the requests. */
export function pciPrgRespPasidRequired(pci: PciFunction): boolean {
  const at = findExtendedCapability(owner(pci), ExtendedCapabilityId.PRI);
  return at !== 0 && readField(owner(pci), at, PRI_CAPABILITY.PRGResponsePASIDRequired) === 1;
}

/** PRI has been disabled and no request of the function is outstanding. */
export function pciPriStopped(pci: PciFunction): boolean {
  const at = findExtendedCapability(owner(pci), ExtendedCapabilityId.PRI);
  return (
    at === 0 ||
    (readField(owner(pci), at, PRI_CAPABILITY.Enable) === 0 && readField(owner(pci), at, PRI_CAPABILITY.Stopped) === 1)
  );
}

function priOf(pci: PciFunction): number {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.PRI);
  if (at === 0) throw new IommuError("EINVAL", `${pci.bdf} has no PRI`);
  return at;
}
