/**
 * A device that a program drives: one file with a region for each BAR, the ROM and configuration space. Opened any number
 * of times; while it is open, or one of its BARs is mapped, its group stays in its container.
 */
import {
  type Device,
  type FileMapping,
  type FileOps,
  IommuError,
  Mutex,
  PAGE_SIZE,
  pciResetFunction,
  pciResetMethods,
  type ResetPrepare,
  type Task,
  TYPE0_HEADER,
  type UserPointer,
  unfailing,
  WaitQueue,
  writeField,
} from "@iommukit/core";
import type { VfioGroup } from "../group.js";
import { deviceIoctl } from "./device-ioctl.js";
import { IoEventFds } from "./io-event-fds.js";
import { DeviceIrqs } from "./irqs.js";
import { LowPower } from "./low-power.js";
import { DeviceRegions } from "./regions.js";
import { resourcesOf } from "./resources.js";
import { VirtualConfig } from "./virtual-config.js";

/** How long a program may take to let go of a device that is about to be removed, in nanoseconds. */
const REMOVE_PATIENCE = 10_000_000_000;

export class VfioDevice {
  readonly irqs: DeviceIrqs;
  readonly ioEventFds: IoEventFds;
  readonly regions: DeviceRegions;
  readonly config: VirtualConfig;
  readonly lowPower: LowPower;
  readonly #closed: WaitQueue;
  /** Open files and mapped BARs. */
  #users = 0;
  #resetWorks = false;
  #removed = false;
  /** How to take the BARs out of every address space that has them mapped. */
  readonly #revokes = new Set<() => Promise<void>>();
  /** Memory space is being turned off: nobody gets a page of a BAR. */
  #revoking = 0;

  constructor(
    readonly group: VfioGroup,
    readonly device: Device,
  ) {
    const { vfio, iommuGroup } = group;
    const { pci } = device;
    const resources = resourcesOf(pci);
    this.irqs = new DeviceIrqs(
      pci,
      new Mutex(vfio.scheduler, vfio.trace, `vfio ${device.name}->igate`),
      { dynamicMsix: vfio.dynamicMsix, errorNeedsPcie: vfio.profile.errorIrqNeedsPcie },
      (handlers) => vfio.interrupts.allocateMessages(handlers),
      (address) => vfio.prepareMessage(iommuGroup, address),
    );
    this.ioEventFds = new IoEventFds(pci, this.irqs.msix);
    this.config = new VirtualConfig(pci, resources, {
      intxDisabled: (disabled) => this.irqs.intx.setDisabled(disabled),
      msiEnabled: () => this.irqs.msi.enabled > 0,
      memoryDisabled: (write) => this.unmapped(async () => write()),
      functionLevelReset: async () => void (await this.#tryReset()),
    });
    this.regions = new DeviceRegions(pci, resources, this.config, this.irqs.msix);
    this.lowPower = new LowPower(device.name, (body) => this.unmapped(body));
    this.#closed = new WaitQueue(vfio.scheduler, `vfio ${device.name} to be closed`);
  }

  get name(): string {
    return this.device.name;
  }

  get opened(): boolean {
    return this.#users > 0;
  }

  /** Under the group's lock. The first open stops the device's DMA and resets it, where that can be done. */
  async open(): Promise<FileOps> {
    if (this.#users === 0) {
      this.#stopDma();
      this.#resetWorks = await this.#tryReset();
    }
    this.#get();
    return {
      name: `anon_inode:[vfio-device] ${this.device.name}`,
      ioctl: (task, request, arg) => this.#ioctl(task, request, arg),
      read: async (_task, into, position) => this.#awake().read(into, position),
      write: async (_task, bytes, position) => this.#awake().write(bytes, position),
      mmap: (_task, offset, length, _write, shared) => this.#map(offset, length, shared),
      release: () => this.#put(),
    };
  }

  #get(): void {
    if (this.#users++ === 0) this.group.get();
  }

  async #put(): Promise<void> {
    if (this.#dropUser()) await this.group.put();
  }

  /** @returns whether it was the last one */
  #dropUser(): boolean {
    if (--this.#users > 0) return false;
    this.#release();
    this.#closed.wakeAll();
    return true;
  }

  #release(): void {
    this.lowPower.exit();
    this.irqs.disableAll();
    this.ioEventFds.clear();
    this.#stopDma();
  }

  #stopDma(): void {
    if (this.device.pci.present) writeField(this.device.pci, 0, TYPE0_HEADER.BusMasterEnable, 0);
  }

  #present(): DeviceRegions {
    if (this.#removed) throw new IommuError("ENODEV", `${this.device.name} has been removed`);
    return this.regions;
  }

  #awake(): DeviceRegions {
    const regions = this.#present();
    this.lowPower.used();
    return regions;
  }

  async #ioctl(task: Task, request: number, arg: UserPointer): Promise<number> {
    this.#awake();
    return deviceIoctl(this, task, request, arg);
  }

  /** @throws IommuError EINVAL private, not a BAR, or not inside of it */
  #map(offset: number, length: number, shared: boolean): FileMapping {
    const { address } = this.#present().physical(offset, length);
    if (!shared) throw new IommuError("EINVAL", "a BAR is mapped shared");
    this.#get();
    let open = true;
    let revoke: (() => Promise<void>) | undefined;
    const gone = () => this.#removed || this.#revoking > 0 || this.lowPower.engaged || !this.config.memoryEnabled;
    return {
      page: (at) => (gone() || at >= Math.ceil(length / PAGE_SIZE) * PAGE_SIZE ? undefined : address + at),
      mapped: (how) => {
        revoke = how;
        this.#revokes.add(how);
      },
      close: () => {
        if (!open) return;
        open = false;
        if (revoke) this.#revokes.delete(revoke);
        // munmap cannot wait for what the last user leaves behind.
        if (this.#dropUser()) this.group.vfio.scheduler.spawn(`vfio ${this.device.name} unmap`, () => this.group.put());
      },
    };
  }

  /** vfio_pci_zap_and_down_write_memory_lock: `body` runs while no address space has a BAR mapped, or can fault one in (V-12). */
  async unmapped(body: () => Promise<void>): Promise<void> {
    this.#revoking++;
    try {
      for (const revoke of [...this.#revokes]) await revoke();
      await body();
    } finally {
      this.#revoking--;
    }
  }

  get #alone(): boolean {
    const [bridge] = this.device.pci.upstream;
    return (
      bridge !== undefined &&
      !this.group.vfio.allDevices().some(({ pci }) => pci !== this.device.pci && pci.upstream[0] === bridge)
    );
  }

  /** vdev->reset_works: the reset at the first open has succeeded. */
  get resettable(): boolean {
    return this.#resetWorks;
  }

  /** A function that cannot be reset, or does not come back, is opened all the same. */
  async #tryReset(): Promise<boolean> {
    const { pci, name } = this.device;
    if (pciResetMethods(pci, this.#alone).length === 0) return false;
    return unfailing(this.group.vfio, `vfio-pci ${name}: reset`, () => this.#reset());
  }

  async #reset(): Promise<void> {
    const { groups, scheduler } = this.group.vfio;
    const reset = (prepare: ResetPrepare) => pciResetFunction(this.device.pci, scheduler, this.#alone, prepare);
    await this.unmapped(() => groups.whileReset([this.device], reset));
  }

  /** @throws IommuError EINVAL when the function cannot be reset by itself */
  async reset(): Promise<void> {
    if (!this.resettable) throw new IommuError("EINVAL", `${this.device.name} cannot be reset by itself`);
    await this.#reset();
  }

  /** The device is going away: asks for it, waits a while, and then answers ENODEV to whoever still has it open. */
  async remove(): Promise<void> {
    this.irqs.request();
    await this.#closed.waitTimeout(() => !this.opened, REMOVE_PATIENCE);
    this.#removed = true;
    await this.unmapped(async () => this.#release());
  }
}
