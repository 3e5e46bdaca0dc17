/**
 * pci_device_group: the group that a function has to join, because the IOMMU cannot tell it from a function there, or
 * because they can reach each other without passing the IOMMU (I14). Bridges have groups as well; they come before what
 * is behind them.
 */
import { pciAcsEnabled, pciAcsPathEnabled } from "../pci/acs.js";
import { Acs } from "../pci/capabilities/acs.js";
import { TYPE0_HEADER } from "../pci/capabilities/header.js";
import { PortType } from "../pci/capabilities/pci-express.js";
import { readField } from "../pci/config-field.js";
import { pciPcieType } from "../pci/pci-express.js";
import type { PciFunction } from "../pci/pci-function.js";

/** What keeps requests from turning around below the IOMMU. */
const REQUIRED = Acs.SV | Acs.RR | Acs.CR | Acs.UF;

/**
 * @param groupOf the group of a function that has one already
 * @param others the functions that have one
 * @returns undefined when the function gets a group of its own
 */
export function pciDeviceGroup<G>(
  pci: PciFunction,
  groupOf: (pci: PciFunction) => G | undefined,
  others: Iterable<PciFunction>,
): G | undefined {
  // Requests from behind a conventional bridge carry the bridge's requester id: all of them are one device.
  let top = pci;
  let above = 0;
  for (const [depth, bridge] of pci.upstream.entries()) {
    if (passesRequesterIds(bridge)) continue;
    const group = groupOf(bridge);
    if (group) return group;
    top = bridge;
    above = depth + 1;
  }
  // Up to the first bridge from which everything is isolated, peers can meet.
  for (const bridge of pci.upstream.slice(above)) {
    if (pciAcsPathEnabled(bridge, REQUIRED)) break;
    const group = groupOf(bridge);
    if (group) return group;
    top = bridge;
  }
  // The functions of one device can reach each other inside of it.
  if (readField(top, 0, TYPE0_HEADER.MultiFunctionDevice) === 0 || pciAcsEnabled(top, REQUIRED)) return undefined;
  for (const other of others) {
    const neighbour = other.segment === top.segment && other.rid >>> 3 === top.rid >>> 3;
    if (neighbour && !pciAcsEnabled(other, REQUIRED)) return groupOf(other);
  }
  return undefined;
}

function passesRequesterIds(bridge: PciFunction): boolean {
  const type = pciPcieType(bridge);
  return type === PortType["root port"] || type === PortType["upstream port"] || type === PortType["downstream port"];
}
