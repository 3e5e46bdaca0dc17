/**
 * A device that a program drives: its descriptor, which is one file with a region for each BAR, the expansion ROM and
 * configuration space. Opened any number of times; while it is open its group stays in its container.
 */
import { type Device, type FileOps, IommuError, type Task, type UserPointer, WaitQueue } from "@iommukit/core";
import type { VfioGroup } from "../group.js";
import { deviceIoctl } from "./device-ioctl.js";
import { DeviceIrqs } from "./irqs.js";
import { DeviceRegions } from "./regions.js";

/** How long a program may take to let go of a device that is about to be removed, in nanoseconds. */
const REMOVE_PATIENCE = 10_000_000_000;

export class VfioDevice {
  readonly regions: DeviceRegions;
  readonly irqs: DeviceIrqs;
  readonly #closed: WaitQueue;
  #opens = 0;
  #removed = false;

  constructor(
    readonly group: VfioGroup,
    readonly device: Device,
  ) {
    this.regions = new DeviceRegions(device.pci);
    this.irqs = new DeviceIrqs(this);
    this.#closed = new WaitQueue(group.vfio.scheduler, `vfio ${device.name} to be closed`);
  }

  get opened(): boolean {
    return this.#opens > 0;
  }

  /** Under the group's lock. */
  open(): FileOps {
    if (this.#opens++ === 0) this.group.get();
    let open = true;
    return {
      name: `anon_inode:[vfio-device] ${this.device.name}`,
      ioctl: (task, request, arg) => this.#ioctl(task, request, arg),
      read: async (_task, into, position) => this.#present().read(into, position),
      write: async (_task, bytes, position) => this.#present().write(bytes, position),
      release: async () => {
        if (open) await this.#close();
        open = false;
      },
    };
  }

  #present(): DeviceRegions {
    if (this.#removed) throw new IommuError("ENODEV", `${this.device.name} has been removed`);
    return this.regions;
  }

  async #ioctl(task: Task, request: number, arg: UserPointer): Promise<number> {
    this.#present();
    return deviceIoctl(this, task, request, arg);
  }

  async #close(): Promise<void> {
    if (--this.#opens > 0) return;
    await this.irqs.disableAll();
    this.#closed.wakeAll();
    await this.group.put();
  }

  /** The device is going away: asks for it, waits a while, and then answers ENODEV to whoever still has it open. */
  async remove(): Promise<void> {
    this.irqs.request();
    await this.#closed.waitTimeout(() => !this.opened, REMOVE_PATIENCE);
    await this.irqs.disableAll();
    this.#removed = true;
  }
}
