/**
 * Requests from behind a bridge to conventional PCI carry the bridge's id instead of the function's (I14;
 * pci_for_each_dma_alias): secondary bus, device 0, function 0. That id gets entries of its own, on the domain of the
 * functions behind the bridge, which share a group. A function that really has the id speaks for all of them.
 */
import {
  CapabilityId,
  findCapability,
  PCI_EXPRESS_CAPABILITY,
  type PciFunction,
  PortType,
  readField,
} from "@iommukit/core";
import type { Attachment } from "./attachment.js";
import { DeviceInfo } from "./device-info.js";

/** Offset of Secondary Bus Number in a bridge's header. */
const SECONDARY_BUS = 0x19;

/** The id that requests of the function arrive with when it is not the function's own. */
export function aliasOf(pci: PciFunction): number | undefined {
  const bridge = pci.upstream.findLast(isConventional);
  const alias = bridge && bridge.readConfig(SECONDARY_BUS, 1) << 8;
  return alias === pci.rid ? undefined : alias;
}

function isConventional(bridge: PciFunction): boolean {
  const at = findCapability(bridge, CapabilityId.PCI_EXPRESS);
  return at !== 0 && readField(bridge, at, PCI_EXPRESS_CAPABILITY.DevicePortType) === PortType["PCIe to PCI bridge"];
}

interface Alias {
  readonly info: DeviceInfo;
  /** Functions behind the bridge that are on a domain. */
  readonly users: Set<DeviceInfo>;
}

export class Aliases {
  readonly #aliases = new Map<number, Alias>();

  constructor(
    private readonly attachment: Attachment,
    private readonly devices: ReadonlyMap<number, DeviceInfo>,
  ) {}

  /** The function is on its domain: so is its alias. */
  async attached(info: DeviceInfo): Promise<void> {
    const rid = aliasOf(info.device.pci);
    if (rid === undefined || this.devices.has(rid) || !info.domain) return;
    const alias = this.#aliases.get(rid) ?? (await this.#add(rid, info));
    alias.users.add(info);
    if (alias.info.domain !== info.domain) await this.attachment.attach(info.domain, alias.info);
  }

  async #add(rid: number, { device }: DeviceInfo): Promise<Alias> {
    const alias: Alias = { info: new DeviceInfo(device, rid), users: new Set() };
    await this.attachment.add(alias.info, 0);
    this.#aliases.set(rid, alias);
    return alias;
  }

  /** The function is about to leave its domain. */
  async detached(info: DeviceInfo): Promise<void> {
    const rid = aliasOf(info.device.pci);
    const alias = rid === undefined ? undefined : this.#aliases.get(rid);
    if (rid === undefined || !alias?.users.delete(info) || alias.users.size > 0) return;
    this.#aliases.delete(rid);
    await this.attachment.remove(alias.info);
  }

  /** A function with that id comes: it speaks for those behind the same bridge from now on. */
  async replacedBy(rid: number): Promise<void> {
    const alias = this.#aliases.get(rid);
    if (!alias) return;
    this.#aliases.delete(rid);
    await this.attachment.remove(alias.info);
  }

  /** The function with that id has gone: the others behind the bridge need the alias again. */
  async released(rid: number): Promise<void> {
    for (const info of this.devices.values()) if (aliasOf(info.device.pci) === rid) await this.attached(info);
  }
}
