/**
 * SVA is enabled per device, while containers come and go by group, and several mediated devices may share their parent: the
 * first user initialises a device, the last one shuts it down, and they take turns (S-7). mm_exit of a device goes to the container that the bond names.
 */
import {
  type Device,
  IOMMU_SVA_FEAT_IOPF,
  type MmExitHandler,
  Mutex,
  type Scheduler,
  type Sva,
  type Tracer,
} from "@iommukit/core";

export class SvaDevices {
  readonly #users = new Map<Device, number>();
  readonly #locks = new WeakMap<Device, Mutex>();

  constructor(
    private readonly sva: Sva,
    private readonly scheduler: Scheduler,
    private readonly trace: Tracer,
  ) {}

  /** @throws IommuError as iommu_sva_device_init; the device is as before then */
  async enable(device: Device, mmExit: MmExitHandler): Promise<void> {
    await this.#lock(device).with(async () => {
      const users = this.#users.get(device) ?? 0;
      if (users === 0) await this.sva.iommuSvaDeviceInit(device, IOMMU_SVA_FEAT_IOPF, 0, mmExit);
      this.#users.set(device, users + 1);
    });
  }

  async disable(device: Device): Promise<void> {
    await this.#lock(device).with(async () => {
      const users = this.#users.get(device) ?? 0;
      if (users > 1) this.#users.set(device, users - 1);
      else {
        this.#users.delete(device);
        await this.sva.iommuSvaDeviceShutdown(device);
      }
    });
  }

  #lock(device: Device): Mutex {
    let lock = this.#locks.get(device);
    if (!lock) {
      lock = new Mutex(this.scheduler, this.trace, `vfio sva users of ${device.name}`);
      this.#locks.set(device, lock);
    }
    return lock;
  }

  get enabled(): readonly Device[] {
    return [...this.#users.keys()];
  }
}
