/** What Linux derives from the PCI Express capability: a function's type, and whether a PASID gets through to the root complex. */
import { CapabilityId } from "./capabilities/ids.js";
import { PCI_EXPRESS_CAPABILITY, PortType } from "./capabilities/pci-express.js";
import { readField } from "./config-field.js";
import { findCapability, type PciFunction } from "./pci-function.js";

/** pci_pcie_type: a value of PortType; undefined for a function without a PCI Express capability. */
export function pciPcieType(pci: PciFunction): number | undefined {
  const at = findCapability(pci, CapabilityId.PCI_EXPRESS);
  return at === 0 ? undefined : readField(pci, at, PCI_EXPRESS_CAPABILITY.DevicePortType);
}

/** pci_dev.eetlp_prefix_max: end-end TLP prefixes that travel from the function to the root complex; 0 when none can (I4). */
export function pciEetlpPrefixMax(pci: PciFunction, upstream = pci.upstream): number {
  const at = findCapability(pci, CapabilityId.PCI_EXPRESS);
  if (at === 0 || readField(pci, at, PCI_EXPRESS_CAPABILITY.EndEndTLPPrefixSupported) === 0) return 0;
  const type = readField(pci, at, PCI_EXPRESS_CAPABILITY.DevicePortType);
  const [bridge, ...rest] = upstream;
  const rooted = type === PortType["root port"] || type === PortType["root complex integrated endpoint"];
  if (!rooted && (bridge === undefined || pciEetlpPrefixMax(bridge, rest) === 0)) return 0;
  return readField(pci, at, PCI_EXPRESS_CAPABILITY.MaxEndEndTLPPrefixes) || 4;
}
