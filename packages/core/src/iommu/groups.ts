/**
 * The IOMMU core's groups and domains: iommu_attach_group, iommu_detach_group and DMA ownership of drivers/iommu/iommu.c.
 * Which devices share a group is decided by `pciDeviceGroup`.
 */
import { IommuError } from "../kernel/errno.js";
import { Mutex } from "../kernel/mutex.js";
import type { Scheduler } from "../kernel/scheduler.js";
import type { Tracer } from "../trace/tracer.js";
import type { Device } from "./device.js";
import type { IommuDomain } from "./domain.js";
import { IommuGroup } from "./group.js";
import { sharesGroup } from "./pci-device-group.js";

export class Groups {
  readonly all = new Map<number, IommuGroup>();
  readonly #defaults = new Map<IommuGroup, IommuDomain>();
  #nextId = 0;

  constructor(
    private readonly scheduler: Scheduler,
    private readonly trace: Tracer,
  ) {}

  /** Finds or makes the device's group and attaches the device to the group's domain. */
  async add(device: Device): Promise<IommuGroup> {
    const group = this.#groupFor(device);
    device.group = group;
    group.devices.push(device);
    const ops = opsOf(device);
    if (!this.#defaults.has(group)) {
      const domain = ops.domainAlloc("dma", device);
      this.#defaults.set(group, domain);
      group.domain = domain;
    }
    if (group.domain) await this.#attachDevice(group.domain, device);
    return group;
  }

  #groupFor(device: Device): IommuGroup {
    for (const group of this.all.values()) {
      if (group.devices.some((other) => other.iommu === device.iommu && sharesGroup(device.pci, other.pci)))
        return group;
    }
    const id = this.#nextId++;
    const group = new IommuGroup(id, new Mutex(this.scheduler, this.trace, `group ${id}->mutex`));
    this.all.set(id, group);
    return group;
  }

  /** Takes the device out of its group; the last one takes the group and its default domain with it. */
  async remove(device: Device): Promise<void> {
    const { group } = device;
    if (!group) return;
    if (group.domain) await this.#detachDevice(group.domain, device);
    group.devices.splice(group.devices.indexOf(device), 1);
    device.group = undefined;
    if (group.devices.length > 0) return;
    const domain = this.#defaults.get(group);
    this.#defaults.delete(group);
    this.all.delete(group.id);
    if (domain) domain.ops.domainFree(domain);
  }

  /** iommu_group_claim_dma_owner: only `owner` may use the group. @throws IommuError EBUSY when somebody else does */
  claimDmaOwner(group: IommuGroup, owner: unknown): void {
    if (group.owner !== undefined) throw new IommuError("EBUSY", `group ${group.id} is already owned for DMA`);
    group.owner = owner;
  }

  releaseDmaOwner(group: IommuGroup): void {
    group.owner = undefined;
  }

  /** iommu_attach_group: moves every device of the group to `domain`, or none. @throws IommuError EBUSY in another unmanaged domain */
  async attachGroup(domain: IommuDomain, group: IommuGroup): Promise<void> {
    const before = group.domain;
    if (before && before !== this.#defaults.get(group))
      throw new IommuError("EBUSY", `group ${group.id} is attached to domain ${before.id}`);
    await this.#moveTo(domain, before, group);
  }

  /** iommu_detach_group: back to the default domain. */
  async detachGroup(domain: IommuDomain, group: IommuGroup): Promise<void> {
    if (group.domain !== domain) return;
    const fallback = this.#defaults.get(group);
    for (const device of group.devices) {
      await this.#detachDevice(domain, device);
      if (fallback) await this.#attachDevice(fallback, device);
    }
    group.domain = fallback;
  }

  async #moveTo(domain: IommuDomain, before: IommuDomain | undefined, group: IommuGroup): Promise<void> {
    const moved: Device[] = [];
    try {
      for (const device of group.devices) {
        if (before) await this.#detachDevice(before, device);
        moved.push(device);
        await this.#attachDevice(domain, device);
      }
    } catch (error) {
      const failed = moved.pop();
      for (const device of moved.reverse()) await this.#detachDevice(domain, device);
      for (const device of failed ? [...moved, failed] : moved) {
        if (before) await this.#attachDevice(before, device);
      }
      throw error;
    }
    group.domain = domain;
  }

  async #attachDevice(domain: IommuDomain, device: Device): Promise<void> {
    await domain.ops.attachDev(domain, device);
    if (this.trace.enabled)
      this.trace.emit("domain:attached", { unit: device.iommu?.name ?? "", device: device.name, domain: domain.id });
  }

  async #detachDevice(domain: IommuDomain, device: Device): Promise<void> {
    await domain.ops.detachDev(domain, device);
    if (this.trace.enabled)
      this.trace.emit("domain:detached", { unit: device.iommu?.name ?? "", device: device.name, domain: domain.id });
  }
}

function opsOf(device: Device) {
  if (!device.iommu) throw new IommuError("ENODEV", `${device.name} is behind no IOMMU`);
  return device.iommu.ops;
}
