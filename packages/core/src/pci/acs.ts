/** Effective Access Control Services: pci_acs_enabled and pci_acs_path_enabled of drivers/pci/pci.c. */
import { ACS_CAPABILITY } from "./capabilities/acs.js";
import { TYPE0_HEADER } from "./capabilities/header.js";
import { ExtendedCapabilityId } from "./capabilities/ids.js";
import { PortType } from "./capabilities/pci-express.js";
import { readField } from "./config-field.js";
import { pciPcieType } from "./pci-express.js";
import { findExtendedCapability, type PciFunction } from "./pci-function.js";

/** Egress Control counts as required even where the function does not have it. */
const EGRESS_CONTROL = 0x20;

/**
 * Whether the function itself lets nothing reach its neighbours. A single-function endpoint has no neighbours and needs
 * no ACS; conventional PCI and PCIe-to-PCI bridges never have it.
 * @param flags Acs bits
 */
export function pciAcsEnabled(pci: PciFunction, flags: number): boolean {
  const type = pciPcieType(pci);
  if (type === undefined) return false;
  switch (type) {
    case PortType["root port"]:
    case PortType["downstream port"]:
      return acsFlagsEnabled(pci, flags);
    case PortType.endpoint:
    case PortType["legacy endpoint"]:
    case PortType["upstream port"]:
    case PortType["root complex integrated endpoint"]:
      return readField(pci, 0, TYPE0_HEADER.MultiFunctionDevice) === 0 || acsFlagsEnabled(pci, flags);
    default:
      return false;
  }
}

/** A flag that the function does not implement counts as enabled: what it controls cannot happen there. */
function acsFlagsEnabled(pci: PciFunction, flags: number): boolean {
  const at = findExtendedCapability(pci, ExtendedCapabilityId.ACS);
  if (at === 0) return false;
  const required = flags & (pci.readConfig(at + ACS_CAPABILITY.SourceValidation.word * 4, 2) | EGRESS_CONTROL);
  return (pci.readConfig(at + 6, 2) & required) === required;
}

/** Whether the flags are enabled from the function up to the root complex. */
export function pciAcsPathEnabled(pci: PciFunction, flags: number): boolean {
  return pciAcsEnabled(pci, flags) && pci.upstream.every((bridge) => pciAcsEnabled(bridge, flags));
}
