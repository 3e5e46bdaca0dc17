/**
 * SVA is enabled per device, while containers come and go by group: the first user initialises a device, the last one
 * shuts it down (S-7). mm_exit of a device goes to the container that the bond names.
 */
import { type Device, IOMMU_SVA_FEAT_IOPF, type MmExitHandler, type Sva } from "@iommukit/core";

export class SvaDevices {
  readonly #users = new Map<Device, number>();

  constructor(private readonly sva: Sva) {}

  /** @throws IommuError as iommu_sva_device_init; the device is as before then */
  async enable(device: Device, mmExit: MmExitHandler): Promise<void> {
    const users = this.#users.get(device) ?? 0;
    if (users === 0) await this.sva.iommuSvaDeviceInit(device, IOMMU_SVA_FEAT_IOPF, 0, mmExit);
    this.#users.set(device, users + 1);
  }

  async disable(device: Device): Promise<void> {
    const users = this.#users.get(device) ?? 0;
    if (users > 1) this.#users.set(device, users - 1);
    else {
      this.#users.delete(device);
      await this.sva.iommuSvaDeviceShutdown(device);
    }
  }

  get enabled(): readonly Device[] {
    return [...this.#users.keys()];
  }
}
