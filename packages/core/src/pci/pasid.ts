/** PASID from the kernel's side: pci_enable_pasid and its neighbours of drivers/pci/ats.c (I4, I5). */
import { IommuError } from "../kernel/errno.js";
import { pciAcsPathEnabled } from "./acs.js";
import { pciAtsEnabled } from "./ats.js";
import { Acs } from "./capabilities/acs.js";
import { ExtendedCapabilityId } from "./capabilities/ids.js";
import { PASID_CAPABILITY } from "./capabilities/pasid.js";
import { readField } from "./config-field.js";
import { pciEetlpPrefixMax } from "./pci-express.js";
import { findExtendedCapability, type PciFunction } from "./pci-function.js";

/** PCI_PASID_CAP_EXEC, PCI_PASID_CAP_PRIV: features, in the bits of capability and control register. */
export const PasidFeature = { EXEC: 2, PRIV: 4 } as const;
const PASID_ENABLE = 1;
const CONTROL = 6;

/** Whether PASIDCtl.Enable is set; false without the capability. */
export function pciPasidEnabled(pci: PciFunction): boolean {
  const function_ = pci.physicalFunction ?? pci;
  const at = findExtendedCapability(function_, ExtendedCapabilityId.PASID);
  return at !== 0 && readField(function_, at, PASID_CAPABILITY.PASIDEnable) === 1;
}

/**
 * Before ATS is enabled: PASID Enable must not change while it is (PCIe 7.8.9.3).
 * @param features PasidFeature bits
 * @throws IommuError EINVAL no PASID capability, a feature that the function lacks, a PASID prefix cannot travel to the root
 *   complex, ACS does not redirect requests on the path, or a VF whose PF has not enabled it; EBUSY enabled already, or ATS is
 */
export function pciEnablePasid(pci: PciFunction, features: number): void {
  if (pci.physicalFunction) {
    if (!pciPasidEnabled(pci))
      throw new IommuError(
        "EINVAL",
        `${pci.bdf} shares the PASID capability of ${pci.physicalFunction.bdf}, which is not enabled`,
      );
    return;
  }
  if (pciPasidEnabled(pci)) throw new IommuError("EBUSY", `PASID of ${pci.bdf} is enabled already`);
  if (pciAtsEnabled(pci)) throw new IommuError("EBUSY", `PASID of ${pci.bdf} cannot change while its ATS is enabled`);
  const at = pasidOf(pci);
  if (pciEetlpPrefixMax(pci) === 0)
    throw new IommuError("EINVAL", `end-end TLP prefixes do not travel from ${pci.bdf} to the root complex`);
  if (!pciAcsPathEnabled(pci, Acs.RR | Acs.UF))
    throw new IommuError("EINVAL", `ACS does not redirect requests on the path of ${pci.bdf}`);
  const supported = pciPasidFeatures(pci);
  if ((supported & features) !== features)
    throw new IommuError(
      "EINVAL",
      `${pci.bdf} has PASID features 0x${supported.toString(16)}, not 0x${features.toString(16)}`,
    );
  pci.writeConfig(at + CONTROL, 2, PASID_ENABLE | features);
}

/** No effect on a VF, and when it is not enabled. @throws IommuError EBUSY while ATS is enabled */
export function pciDisablePasid(pci: PciFunction): void {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.PASID);
  if (at === 0 || pci.physicalFunction || !pciPasidEnabled(pci)) return;
  if (pciAtsEnabled(pci)) throw new IommuError("EBUSY", `PASID of ${pci.bdf} cannot change while its ATS is enabled`);
  pci.writeConfig(at + CONTROL, 2, 0);
}

/** PasidFeature bits that the function supports. @throws IommuError EINVAL without the capability */
export function pciPasidFeatures(pci: PciFunction): number {
  const function_ = pci.physicalFunction ?? pci;
  return function_.readConfig(pasidOf(function_) + 4, 2) & (PasidFeature.EXEC | PasidFeature.PRIV);
}

/** How many PASIDs the function can tell apart: 2^width. @throws IommuError EINVAL without the capability */
export function pciMaxPasids(pci: PciFunction): number {
  const function_ = pci.physicalFunction ?? pci;
  return 2 ** readField(function_, pasidOf(function_), PASID_CAPABILITY.MaxPASIDWidth);
}

function pasidOf(pci: PciFunction): number {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.PASID);
  if (at === 0) throw new IommuError("EINVAL", `${pci.bdf} has no PASID capability`);
  return at;
}
