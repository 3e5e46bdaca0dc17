/** A bond with what the core keeps to itself: its life from the first link to the last waiter. */
import type { Device } from "../iommu/device.js";
import type { IommuDomain } from "../iommu/domain.js";
import type { SvaOps } from "../iommu/iommu-ops.js";
import type { Kernel } from "../kernel/kernel.js";
import { WaitQueue } from "../kernel/wait-queue.js";
import type { Bond } from "./bond.js";
import type { IoMmRecord } from "./io-mms.js";
import type { SvaDeviceParam } from "./sva-devices.js";

export class BondRecord implements Bond {
  /** mainline: how often the address space was bound to the device. */
  users = 1;
  /** The hardware may hold an entry for it: invalidations must reach it. */
  attached = false;
  /** Its bind has succeeded. */
  ready = false;
  /** Somebody removes it; everybody else waits. */
  leaving = false;
  gone = false;
  waiters = 0;
  #mmExitActive = false;
  /** Most bonds never see a waiter. */
  #waitQueue: WaitQueue | undefined;

  constructor(
    private readonly kernel: Kernel,
    readonly ioMm: IoMmRecord,
    readonly device: Device,
    readonly domain: IommuDomain,
    /** The domain's. */
    readonly ops: SvaOps,
    readonly param: SvaDeviceParam,
    readonly drvdata: unknown,
  ) {}

  /** Suspends until `condition` holds; looked at again when the bond is ready, when mm_exit has returned, and when it is gone. */
  wait(condition: () => boolean): Promise<void> {
    this.#waitQueue ??= new WaitQueue(
      this.kernel.scheduler,
      `the bond of ${this.device.name} with PASID ${this.pasid}`,
    );
    return this.#waitQueue.wait(condition);
  }

  wakeAll(): void {
    this.#waitQueue?.wakeAll();
  }

  get pasid(): number {
    return this.ioMm.pasid;
  }

  /** Bound, or gone: nobody works on it. */
  get settled(): boolean {
    return this.gone || (this.ready && !this.leaving);
  }

  get mmExitActive(): boolean {
    if (this.gone)
      this.kernel.printk(`BUG: KASAN: use-after-free of the bond of ${this.device.name} with PASID ${this.ioMm.pasid}`);
    return this.#mmExitActive;
  }

  set mmExitActive(active: boolean) {
    this.#mmExitActive = active;
  }
}
