/**
 * iommu_sva_device_init and iommu_sva_device_shutdown (A1–A6): both all or nothing. They take turns on the device's
 * iommu_param->lock; whoever binds meanwhile does not wait for it, but sees that the device is not, or no more, ready.
 */
import type { Device } from "../iommu/device.js";
import type { IopfQueues } from "../iopf/queue.js";
import { IommuError } from "../kernel/errno.js";
import type { Kernel } from "../kernel/kernel.js";
import { Mutex } from "../kernel/mutex.js";
import { unfailing } from "../kernel/unfailing.js";
import type { Variants } from "../platform/variants.js";
import type { BondRecord } from "./bond-record.js";
import { IOMMU_SVA_FEAT_IOPF, type MmExitHandler, type SvaParam } from "./device-init.js";
import type { IoMmRecord } from "./io-mms.js";
import { PASID_MAX } from "./pasid.js";

export class SvaDeviceParam implements SvaParam {
  minPasid = 0;
  /** From the end of init to the beginning of shutdown: the device may be bound. */
  ready = false;
  readonly mmList = new Set<BondRecord>();
  /** Address spaces that ended while the device could not be stopped: their PASIDs stay taken until it is shut down. */
  readonly stuck = new Set<IoMmRecord>();

  constructor(
    readonly features: number,
    public maxPasid: number,
    readonly mmExit: MmExitHandler | undefined,
  ) {}
}

export class SvaDevices {
  readonly #params = new Map<Device, SvaDeviceParam>();
  readonly #locks = new WeakMap<Device, Mutex>();

  constructor(
    private readonly kernel: Kernel,
    private readonly iopf: IopfQueues,
    private readonly variants: Variants,
  ) {}

  param(dev: Device): SvaDeviceParam | undefined {
    return this.#params.get(dev);
  }

  init(dev: Device, features: number, maxPasid: number, mmExit: MmExitHandler | undefined): Promise<void> {
    return this.#lock(dev).with(() => this.#init(dev, features, maxPasid, mmExit));
  }

  async #init(dev: Device, features: number, maxPasid: number, mmExit: MmExitHandler | undefined): Promise<void> {
    const ops = dev.group?.domain?.ops;
    if (!ops?.svaDeviceInit)
      throw new IommuError("ENODEV", `${dev.name} has no domain, or one without shared virtual addressing`);
    if (features & ~IOMMU_SVA_FEAT_IOPF)
      throw new IommuError("EINVAL", `SVA features 0x${features.toString(16)} of ${dev.name}: only 0x1 is known`);
    const earlier = this.#params.get(dev);
    if (earlier) {
      // iommu_register_device_fault_handler comes first: a device has one.
      if (features & earlier.features & IOMMU_SVA_FEAT_IOPF)
        throw new IommuError("EBUSY", `the page faults of ${dev.name} have a handler already`);
      if (this.variants.has("S-11")) await this.iopf.removeDevice(dev);
      throw new IommuError("EEXIST", `SVA of ${dev.name} is already initialised`);
    }
    if (dev.group?.resetting.has(dev)) throw new IommuError("EBUSY", `${dev.name} is being reset`);
    const param = new SvaDeviceParam(features, maxPasid || PASID_MAX, mmExit);
    this.#params.set(dev, param);
    if (features & IOMMU_SVA_FEAT_IOPF) this.iopf.addDevice(dev);
    dev.svaParam = param;
    try {
      await ops.svaDeviceInit(dev, param);
      param.ready = true;
    } catch (error) {
      this.#forget(dev);
      await this.iopf.removeDevice(dev);
      throw error;
    }
  }

  /**
   * @param unbind takes the device's bonds away and answers what it asked before it was stopped (A6); nobody makes new bonds
   * @returns what the device was initialised with
   * @throws IommuError ENODEV
   */
  shutdown(dev: Device, unbind: () => Promise<void>): Promise<SvaDeviceParam> {
    return this.#lock(dev).with(async () => {
      const param = this.#params.get(dev);
      if (!param || !dev.group?.domain) throw new IommuError("ENODEV", `SVA of ${dev.name} is not initialised`);
      param.ready = false;
      await unbind();
      this.#forget(dev);
      await unfailing(this.kernel, `${dev.name}: sva_device_shutdown`, () =>
        dev.iommu?.ops.svaDeviceShutdown?.(dev, param),
      );
      await this.iopf.removeDevice(dev);
      return param;
    });
  }

  #lock(dev: Device): Mutex {
    let lock = this.#locks.get(dev);
    if (!lock) {
      lock = new Mutex(this.kernel.scheduler, this.kernel.trace, `${dev.name} iommu_param->lock`);
      this.#locks.set(dev, lock);
    }
    return lock;
  }

  #forget(dev: Device): void {
    dev.svaParam = undefined;
    this.#params.delete(dev);
  }
}
