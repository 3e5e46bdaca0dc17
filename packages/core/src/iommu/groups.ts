/**
 * The IOMMU core's groups: who is in which (pciDeviceGroup decides), which domain a group is attached to, and who owns
 * its DMA. iommu_attach_group, iommu_detach_group and the DMA owner functions of drivers/iommu/iommu.c. Each takes
 * group->mutex. Of a move into a domain either every device takes part or none; nothing keeps a
 * group from leaving one.
 */
import { IommuError } from "../kernel/errno.js";
import type { Kernel } from "../kernel/kernel.js";
import { Mutex } from "../kernel/mutex.js";
import { unfailing } from "../kernel/unfailing.js";
import { pciAtsSupported } from "../pci/ats.js";
import type { PciFunction } from "../pci/pci-function.js";
import { variants as named, type Variants } from "../platform/variants.js";
import type { Device } from "./device.js";
import type { IommuDomain } from "./domain.js";
import { IommuGroup } from "./group.js";
import { pciDeviceGroup } from "./pci-device-group.js";

/** Every group of a platform: `platform.groups`. */
export class Groups {
  readonly all = new Map<number, IommuGroup>();
  readonly #byFunction = new Map<PciFunction, IommuGroup>();
  #nextId = 0;

  constructor(
    private readonly kernel: Kernel,
    /** What kernel drivers get: translation, or with "iommu=pt" none. */
    private readonly defaultType: "dma" | "identity" = "dma",
    private readonly variants: Variants = named(),
  ) {}

  /**
   * Finds or makes the device's group and attaches the device to the group's domain.
   * @throws IommuError ENODEV behind no IOMMU, and as the IOMMU driver refuses; the device is in no group then
   */
  async add(device: Device): Promise<IommuGroup> {
    const { iommu, pci } = device;
    if (!iommu) throw new IommuError("ENODEV", `${device.name} is behind no IOMMU`);
    const group =
      pciDeviceGroup(pci, (other) => this.#byFunction.get(other), this.#byFunction.keys()) ?? this.allocate();
    await group.mutex.with(async () => {
      this.all.set(group.id, group);
      this.#byFunction.set(pci, group);
      group.devices.push(device);
      device.group = group;
      try {
        if (!group.defaultDomain) group.domain = group.defaultDomain = iommu.ops.domainAlloc(this.defaultType, device);
        if (group.domain) await this.#attachDevice(group.domain, device);
      } catch (error) {
        this.#forget(group, device);
        throw error;
      }
    });
    return group;
  }

  /** iommu_group_alloc: a group for what no IOMMU stands in front of. */
  allocate(): IommuGroup {
    const id = this.#nextId++;
    return new IommuGroup(id, new Mutex(this.kernel.scheduler, this.kernel.trace, `group ${id}->mutex`));
  }

  /** Takes the device out of its group; the last one takes the group and its default domain with it. */
  async remove(device: Device): Promise<void> {
    const { group } = device;
    if (!group) return;
    await group.mutex.with(async () => {
      if (group.domain) await this.#takeOff(group.domain, device);
      this.#forget(group, device);
    });
  }

  #forget(group: IommuGroup, device: Device): void {
    this.#byFunction.delete(device.pci);
    group.devices.splice(group.devices.indexOf(device), 1);
    group.resetting.delete(device);
    device.group = undefined;
    if (group.devices.length > 0) return;
    this.all.delete(group.id);
    const { defaultDomain } = group;
    group.domain = group.defaultDomain = undefined;
    if (defaultDomain) defaultDomain.ops.domainFree(defaultDomain);
  }

  /**
   * iommu_group_claim_dma_owner: only `owner` may use the group, and until it attaches a domain all DMA is blocked.
   * @throws IommuError EPERM when somebody owns it; EBUSY when it is attached to a domain that is not its default one
   */
  async claimDmaOwner(group: IommuGroup, owner: unknown): Promise<void> {
    await group.mutex.with(async () => {
      if (group.owner !== undefined) throw new IommuError("EPERM", `the DMA of group ${group.id} has an owner`);
      if (group.domain !== group.defaultDomain) throw attachedElsewhere(group);
      await this.#move(group, undefined);
      group.owner = owner;
    });
  }

  /** iommu_group_release_dma_owner: the kernel's drivers may use the group again. The owner has detached its domain. */
  async releaseDmaOwner(group: IommuGroup): Promise<void> {
    await group.mutex.with(async () => {
      group.owner = undefined;
      await this.#moveAnyway(group, group.defaultDomain);
    });
  }

  /** iommu_attach_group. @throws IommuError EBUSY when it is attached to another domain than its default one */
  async attachGroup(domain: IommuDomain, group: IommuGroup): Promise<void> {
    await group.mutex.with(async () => {
      if (group.domain && group.domain !== group.defaultDomain) throw attachedElsewhere(group);
      await this.#move(group, domain);
    });
  }

  /** iommu_detach_group: back to the default domain, or to none while somebody owns the group's DMA. */
  async detachGroup(domain: IommuDomain, group: IommuGroup): Promise<void> {
    await group.mutex.with(async () => {
      if (group.domain === domain)
        await this.#moveAnyway(group, group.owner === undefined ? group.defaultDomain : undefined);
    });
  }

  /**
   * Resets devices while their IOMMUs keep them out (pci_dev_reset_iommu_prepare and _done; I12, L-23). `reset` calls `prepare` when
   * the devices send nothing any more.
   * @throws IommuError EBUSY one of them is being reset already; as `reset` or the IOMMU driver refuses
   */
  async whileReset(devices: readonly Device[], reset: (prepare: () => Promise<void>) => Promise<void>): Promise<void> {
    const prepared: Device[] = [];
    try {
      await reset(async () => {
        for (const device of devices) if (await this.#prepareReset(device)) prepared.push(device);
      });
    } finally {
      for (const device of prepared.reverse()) await this.#endReset(device);
    }
  }

  /** @returns whether there was something to prepare: only who may cache translations is asked for anything */
  async #prepareReset(device: Device): Promise<boolean> {
    const { group, iommu, pci } = device;
    if (!group || !iommu || !pciAtsSupported(pci) || this.variants.has("L-23")) return false;
    await group.mutex.with(async () => {
      if (group.resetting.has(device)) throw new IommuError("EBUSY", `${device.name} is being reset already`);
      await iommu.ops.resetPrepare?.(device);
      group.resetting.add(device);
    });
    return true;
  }

  async #endReset(device: Device): Promise<void> {
    const { group, iommu } = device;
    // It may have been taken out of its group meanwhile.
    if (!group || !iommu) return;
    await group.mutex.with(async () => {
      await unfailing(this.kernel, `${device.name}: reset_done`, () => iommu.ops.resetDone?.(device));
      group.resetting.delete(device);
    });
  }

  /** Under group->mutex. When a device refuses, those that were moved go back. */
  async #move(group: IommuGroup, target: IommuDomain | undefined): Promise<void> {
    const before = group.domain;
    if (target === before) return;
    if (group.resetting.size > 0) throw new IommuError("EBUSY", `a device of group ${group.id} is being reset`);
    const detached: Device[] = [];
    const attached = new Set<Device>();
    try {
      for (const device of group.devices) {
        if (before) await this.#detachDevice(before, device);
        detached.push(device);
        if (target) await this.#attachDevice(target, device);
        attached.add(device);
      }
    } catch (error) {
      for (const device of detached.reverse()) {
        if (target && attached.has(device)) await this.#takeOff(target, device);
        if (before) await this.#putOn(before, device);
      }
      throw error;
    }
    group.domain = target;
  }

  /** __iommu_group_set_domain_nofail: who leaves cannot be kept. A device that refuses its new domain is in none. */
  async #moveAnyway(group: IommuGroup, target: IommuDomain | undefined): Promise<void> {
    const before = group.domain;
    if (target === before) return;
    for (const device of group.devices) {
      if (before) await this.#takeOff(before, device);
      if (target) await this.#putOn(target, device);
    }
    group.domain = target;
  }

  async #takeOff(domain: IommuDomain, device: Device): Promise<void> {
    await unfailing(this.kernel, `${device.name}: detach_dev`, () => this.#detachDevice(domain, device));
  }

  async #putOn(domain: IommuDomain, device: Device): Promise<void> {
    await unfailing(this.kernel, `${device.name}: attach_dev`, () => this.#attachDevice(domain, device));
  }

  async #attachDevice(domain: IommuDomain, device: Device): Promise<void> {
    await domain.ops.attachDev(domain, device);
    const { trace } = this.kernel;
    if (trace.enabled) {
      trace.emit("domain:attached", { unit: device.iommu?.name ?? "", device: device.name, domain: domain.id });
    }
  }

  async #detachDevice(domain: IommuDomain, device: Device): Promise<void> {
    await domain.ops.detachDev(domain, device);
    const { trace } = this.kernel;
    if (trace.enabled) {
      trace.emit("domain:detached", { unit: device.iommu?.name ?? "", device: device.name, domain: domain.id });
    }
  }
}

function attachedElsewhere(group: IommuGroup): IommuError {
  return new IommuError("EBUSY", `group ${group.id} is attached to domain ${group.domain?.id}`);
}
