/**
 * pci_device_group: which functions the IOMMU cannot tell apart, or which can reach each other without it (I14).
 * Functions of one slot without ACS share a group, and so does everything behind a bridge that does not isolate.
 */
import { findExtendedCapability, type PciFunction } from "../pci/pci-function.js";

const PCI_EXT_CAP_ID_ACS = 0x0d;
/** Source Validation, P2P Request Redirect, P2P Completion Redirect, Upstream Forwarding. */
const REQUIRED_ACS = 0x1d;

/** True when ACS keeps the function's requests from reaching its neighbours. */
export function isolates(pci: PciFunction): boolean {
  const at = findExtendedCapability(pci, PCI_EXT_CAP_ID_ACS);
  return at !== 0 && (pci.readConfig(at + 6, 2) & REQUIRED_ACS) === REQUIRED_ACS;
}

export function sharesGroup(a: PciFunction, b: PciFunction): boolean {
  if (a.segment !== b.segment) return false;
  if (a.rid >>> 3 === b.rid >>> 3 && !(isolates(a) && isolates(b))) return true;
  const open = (pci: PciFunction) => pci.upstream.find((bridge) => !isolates(bridge));
  const bridge = open(a);
  return bridge !== undefined && bridge === open(b);
}
