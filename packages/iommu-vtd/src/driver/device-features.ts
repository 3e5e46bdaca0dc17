/**
 * PASID, ATS and PRI of a function. PASID and ATS go on as soon as the unit knows the function, PASID first (I4); in legacy
 * mode ATS goes on with a domain that translates. PRI goes on when the function is to share address spaces.
 */
import {
  ExtendedCapabilityId,
  findExtendedCapability,
  IommuError,
  isErrno,
  pciAtsPageAligned,
  pciAtsQueueDepth,
  pciAtsSupported,
  pciDisableAts,
  pciDisablePasid,
  pciDisablePri,
  pciEnableAts,
  pciEnablePasid,
  pciEnablePri,
  pciMaxPasids,
  pciPriSupported,
  pciResetPri,
} from "@iommukit/core";
import type { DeviceInfo } from "./device-info.js";
import { missingForSva } from "./probe.js";
import type { Unit } from "./unit.js";

const VTD_PAGE_SHIFT = 12;

/** Bits of the PASIDs that the function may send behind this unit; 0 when it sends none. */
export function pasidBitsOf(unit: Unit, info: DeviceInfo): number {
  const { pci } = info.device;
  const { pasidBits } = unit.features;
  if (pasidBits === 0 || findExtendedCapability(pci.physicalFunction ?? pci, ExtendedCapabilityId.PASID) === 0)
    return 0;
  return Math.min(pasidBits, Math.log2(pciMaxPasids(pci)));
}

/** Scalable mode, before ATS. What the function refuses it does without; sharing address spaces says why. */
export function enablePasid(info: DeviceInfo, bits: number): void {
  if (bits > 0) info.pasidEnabled = accepted(info, () => pciEnablePasid(info.device.pci, 0));
}

/** Linux trusts only functions whose translation requests are page-aligned. */
export function enableAts(unit: Unit, info: DeviceInfo): void {
  const { pci } = info.device;
  if (info.isAlias || !unit.features.ecap.DT || !pciAtsSupported(pci) || !pciAtsPageAligned(pci)) return;
  info.qdep = pciAtsQueueDepth(pci);
  info.pfsid = unit.features.ecap.DIT ? (pci.physicalFunction ?? pci).rid : 0;
  info.atsEnabled = accepted(info, () => pciEnableAts(pci, VTD_PAGE_SHIFT));
}

export function disableAts(info: DeviceInfo): void {
  if (info.atsEnabled) pciDisableAts(info.device.pci);
  info.atsEnabled = false;
}

/** After ATS. */
export function disablePasid(info: DeviceInfo): void {
  if (info.pasidEnabled) pciDisablePasid(info.device.pci);
  info.pasidEnabled = false;
}

/** @param credits page requests that the function may have outstanding. @throws IommuError as PCI refuses */
export function enablePri(info: DeviceInfo, credits: number): void {
  pciResetPri(info.device.pci);
  pciEnablePri(info.device.pci, credits);
}

export function disablePri(info: DeviceInfo): void {
  pciDisablePri(info.device.pci);
}

function accepted(info: DeviceInfo, enable: () => void): boolean {
  try {
    enable();
    return true;
  } catch (error) {
    if (!isErrno(error)) throw error;
    info.refusals.push(error.message);
    return false;
  }
}

/**
 * @param faults the device recovers from I/O page faults: PRI too
 * @throws IommuError ENODEV unit or function cannot share address spaces, with everything that is missing
 */
export function mustShare(unit: Unit, info: DeviceInfo, faults: boolean): void {
  const { ecap } = unit.features;
  const { pci } = info.device;
  const missing = [...missingForSva(unit.features), ...info.refusals];
  if (pasidBitsOf(unit, info) === 0 && unit.features.pasidBits > 0)
    missing.push("the function has no PASID capability");
  if (!pciAtsSupported(pci)) missing.push("the function has no ATS capability that may be trusted");
  else if (!pciAtsPageAligned(pci))
    missing.push("its translation requests are not always page-aligned (ATS capability, bit 5)");
  if (faults && !ecap.PRS) missing.push("ECAP.PRS = 0: page requests are not supported");
  if (faults && !pciPriSupported(pci)) missing.push("the function has no PRI capability");
  if (missing.length === 0) return;
  throw new IommuError(
    "ENODEV",
    `${info.device.name} behind ${unit.dmar} cannot share address spaces: ${missing.join("; ")}`,
  );
}
