/**
 * PASID, PRI and ATS of a function, switched for sharing address spaces: in the unit's context entry first, then in the
 * function in the order that PCIe demands (PASID before ATS, I4), and back in reverse.
 */
import {
  ExtendedCapabilityId,
  findExtendedCapability,
  IommuError,
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
import type { Attachment } from "./attachment.js";
import type { DeviceInfo } from "./device-info.js";
import type { PageRequests } from "./page-requests.js";
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

export class DeviceFeatures {
  constructor(
    private readonly unit: Unit,
    private readonly attachment: Attachment,
    private readonly pageRequests: PageRequests,
  ) {}

  /**
   * @param faults the device recovers from I/O page faults: PRI too
   * @throws IommuError ENODEV unit or function cannot, with what is missing; EINVAL, EBUSY as PCI refuses. Nothing is left on.
   */
  async enable(info: DeviceInfo, faults: boolean): Promise<void> {
    const missing = this.#missing(info, faults);
    if (missing.length > 0)
      throw new IommuError(
        "ENODEV",
        `${info.device.name} behind ${this.unit.dmar} cannot share address spaces: ${missing.join("; ")}`,
      );
    const { pci } = info.device;
    info.qdep = pciAtsQueueDepth(pci);
    info.pfsid = this.unit.features.ecap.DIT ? (pci.physicalFunction ?? pci).rid : 0;
    info.priCredits = faults ? this.pageRequests.reserve() : 0;
    info.pasidEnabled = true;
    info.atsEnabled = true;
    await this.attachment.featuresChanged(info);
    try {
      pciEnablePasid(pci, 0);
      if (faults) {
        pciResetPri(pci);
        pciEnablePri(pci, info.priCredits);
      }
      pciEnableAts(pci, VTD_PAGE_SHIFT);
    } catch (error) {
      await this.disable(info);
      throw error;
    }
  }

  /** The function's bonds are gone. Page requests that are still on the way are answered before PRI ends (E16). */
  async disable(info: DeviceInfo): Promise<void> {
    const { pci } = info.device;
    if (info.priEnabled) {
      pciDisablePri(pci);
      await this.pageRequests.drain(info, info.ridPasid, info.domain?.did ?? 0);
    }
    pciDisableAts(pci);
    pciDisablePasid(pci);
    this.pageRequests.release(info.priCredits);
    info.priCredits = 0;
    info.pasidEnabled = false;
    info.atsEnabled = false;
    await this.attachment.featuresChanged(info);
  }

  #missing(info: DeviceInfo, faults: boolean): string[] {
    const { ecap } = this.unit.features;
    const { pci } = info.device;
    const missing = missingForSva(this.unit.features);
    if (pasidBitsOf(this.unit, info) === 0 && ecap.PASID) missing.push("the function has no PASID capability");
    if (!pciAtsSupported(pci)) missing.push("the function has no ATS capability that may be trusted");
    else if (!pciAtsPageAligned(pci))
      missing.push("its translation requests are not always page-aligned (ATS capability, bit 5)");
    if (faults && !ecap.PRS) missing.push("ECAP.PRS = 0: page requests are not supported");
    if (faults && !pciPriSupported(pci)) missing.push("the function has no PRI capability");
    return missing;
  }
}
