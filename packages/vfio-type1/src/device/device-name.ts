/**
 * vfio_pci_core_match: what GROUP_GET_DEVICE_FD takes for a PCI device: its name, and behind a space what else is said. Only a
 * token for SR-IOV functions can be; nobody is asked for one here, and one that is given to such a function is taken.
 */
import { ExtendedCapabilityId, findExtendedCapability, IommuError, type PciFunction } from "@iommukit/core";

const TOKEN = /^ +vf_token=[\da-fA-F]{8}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{12} *$/;

/** @throws IommuError EINVAL no such option, no UUID, given twice, or a token for a device that has no use for it */
export function nameMatches(pci: PciFunction, text: string): boolean {
  if (text === pci.bdf) return true;
  if (!text.startsWith(`${pci.bdf} `)) return false;
  const options = text.slice(pci.bdf.length);
  if (/^ *$/.test(options)) return true;
  if (!TOKEN.test(options)) throw new IommuError("EINVAL", `${pci.bdf} is opened with ${JSON.stringify(options)}`);
  if (!pci.physicalFunction && findExtendedCapability(pci, ExtendedCapabilityId.SRIOV) === 0)
    throw new IommuError("EINVAL", `${pci.bdf} has no VFs and is none: it takes no token`);
  return true;
}
