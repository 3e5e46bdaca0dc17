/**
 * The VFIO of one platform: module parameters, groups with their device nodes, containers that are open. It knows core
 * alone; which IOMMU stands in front of a device it learns from the device.
 */
import {
  type Device,
  Groups,
  InterruptController,
  IommuError,
  type IommuGroup,
  Kernel,
  PhysicalMemory,
  Scheduler,
  Sva,
  SystemBus,
  Tracer,
  Variants,
} from "@iommukit/core";
import { inject, injectable } from "tsyringe";
import type { VfioContainer } from "./container.js";
import type { EmulatedDevice, EmulatedDriver } from "./emulated/emulated-device.js";
import { VfioGroup } from "./group.js";
import { PROFILES, type Profile } from "./profile.js";
import { prepareMessage } from "./type1/msi-cookie.js";
import { SvaDevices } from "./type1/sva-devices.js";
import type { Type1Environment, Type1Params } from "./type1/vfio-iommu.js";
import { VFIO_PCI } from "./vfio-pci.js";

/** Module parameters. */
export interface VfioParams extends Type1Params {
  /** vfio: programs with CAP_SYS_RAWIO may have devices that no IOMMU stands in front of. */
  enableUnsafeNoiommuMode: boolean;
}

/** `vfioOf(platform)`. */
@injectable()
export class Vfio implements Type1Environment {
  profile: Profile = PROFILES.iommukit;
  readonly params: VfioParams = {
    dmaEntryLimit: 65535,
    allowUnsafeInterrupts: false,
    disableHugepages: false,
    enableUnsafeNoiommuMode: false,
  };
  /** The platform can add MSI-X vectors while others are in use. */
  dynamicMsix = true;
  readonly svaDevices: SvaDevices;
  readonly containers = new Set<VfioContainer>();
  readonly #groups = new Map<IommuGroup, VfioGroup>();

  constructor(
    @inject(Kernel) readonly kernel: Kernel,
    @inject(Scheduler) readonly scheduler: Scheduler,
    @inject(Tracer) readonly trace: Tracer,
    @inject(Groups) readonly groups: Groups,
    @inject(Sva) readonly sva: Sva,
    @inject(SystemBus) readonly bus: SystemBus,
    @inject(PhysicalMemory) readonly memory: PhysicalMemory,
    @inject(InterruptController) readonly interrupts: InterruptController,
    @inject(Variants) readonly variants: Variants,
  ) {
    this.svaDevices = new SvaDevices(sva, scheduler, trace);
  }

  printk(line: string): void {
    this.kernel.printk(line);
  }

  /** vfio_pci_probe: the device is VFIO's, and its group has a node. @throws IommuError EINVAL behind no IOMMU, or not coherent */
  bind(device: Device): void {
    const { iommu } = device;
    if (this.profile.coherentOnly && iommu && !iommu.ops.capable(device, "cache-coherency"))
      throw new IommuError("EINVAL", `${iommu.name} cannot make the DMA of ${device.name} coherent`);
    const group = device.group ?? this.#noiommuGroup(device);
    device.driver = VFIO_PCI;
    if (!this.#groups.has(group)) this.#addGroup(new VfioGroup(this, group));
  }

  /** vfio_noiommu_group_alloc. */
  #noiommuGroup(device: Device): IommuGroup {
    if (!this.params.enableUnsafeNoiommuMode) throw new IommuError("EINVAL", `${device.name} is in no IOMMU group`);
    const group = this.groups.allocate();
    group.devices.push(device);
    device.group = group;
    this.#addGroup(new VfioGroup(this, group, "noiommu"));
    this.printk(`vfio-pci ${device.name}: Adding kernel taint for vfio-noiommu group on device`);
    return group;
  }

  #addGroup(vfioGroup: VfioGroup): void {
    this.#groups.set(vfioGroup.iommuGroup, vfioGroup);
    this.kernel.nodes.set(vfioGroup.path, vfioGroup);
  }

  /** vfio_pci_remove: waits until nobody uses the device, having asked its user to let go. */
  async unbind(device: Device): Promise<void> {
    const { group } = device;
    const vfioGroup = group && this.#groups.get(group);
    if (device.driver !== VFIO_PCI || !vfioGroup) return;
    await vfioGroup.removeDevice(device);
    device.driver = undefined;
    if (group.devices.some((other) => other !== device && other.driver === VFIO_PCI)) return;
    this.#removeGroup(vfioGroup);
    if (vfioGroup.type === "noiommu") device.group = undefined;
  }

  #removeGroup(vfioGroup: VfioGroup): void {
    this.#groups.delete(vfioGroup.iommuGroup);
    this.kernel.nodes.delete(vfioGroup.path);
  }

  /**
   * vfio_register_emulated_iommu_dev: a device that `driver` plays, in a group of its own.
   * @param parent the device whose PASIDs it uses (mdev_set_iommu_device): BIND binds processes there
   * @throws IommuError EEXIST another device has the name
   */
  registerEmulated(name: string, driver: EmulatedDriver, parent?: Device): EmulatedDevice {
    const emulated = [...this.#groups.values()].map((group) => group.emulated);
    if ([...this.allDevices(), ...emulated].some((other) => other?.name === name))
      throw new IommuError("EEXIST", `there is a device ${JSON.stringify(name)} already`);
    const group = new VfioGroup(this, this.groups.allocate(), "emulated");
    this.#addGroup(group);
    return group.addEmulated(name, driver, parent);
  }

  /** @throws IommuError EBUSY a program has it, or its group, open */
  unregisterEmulated({ name, group }: EmulatedDevice): void {
    if (group.busy) throw new IommuError("EBUSY", `${name} is in use`);
    this.#removeGroup(group);
  }

  /** Every device of the platform that is in a group. */
  allDevices(): readonly Device[] {
    return [...new Set([...this.groups.all.values(), ...this.#groups.keys()])].flatMap(({ devices }) => devices);
  }

  /**
   * Where a device of the group has to write for a message to reach `address`: an address that the IOMMU translates to
   * it, where messages are translated like any other write.
   */
  async prepareMessage(group: IommuGroup, address: number): Promise<bigint> {
    const iommu = this.#groups.get(group)?.container?.iommu;
    return iommu ? prepareMessage(iommu, group, address) : BigInt(address);
  }

  /** What is still open or held, one line each. */
  leaks(): string[] {
    const containers = [...this.containers].map((container) => `vfio: ${container.describe()}`);
    const groups = [...this.#groups.values()].filter(({ busy }) => busy).map(({ path }) => `vfio: ${path} is open`);
    const devices = this.svaDevices.enabled.map(({ name }) => `vfio: SVA is enabled on ${name}`);
    return [...containers, ...groups, ...devices];
  }
}
