/**
 * vfio_register_emulated_iommu_dev: a device without DMA of its own, as mediated devices are. A driver plays the device; it
 * reaches the program's memory by IOVA, through the container that the device's group is in (F26).
 */
import { type Device, type FileOps, hex, IommuError, type Task, type UserPointer } from "@iommukit/core";
import type { VfioGroup } from "../group.js";
import { dmaRw, pinPages, unpinPages } from "../type1/external.js";
import type { Pinner, VfioIommu } from "../type1/vfio-iommu.js";

/** vfio_device_ops of such a device. Absent: ioctl gives ENOTTY, read and write EINVAL. */
export interface EmulatedDriver {
  /** The first open; what it throws the program gets. */
  openDevice?(device: EmulatedDevice): Promise<void>;
  /** The last close: unpins what it has pinned. */
  closeDevice?(device: EmulatedDevice): Promise<void>;
  /** A mapping is about to go: unpins what it has pinned there before it returns (F17). Absent: the driver cannot pin. */
  dmaUnmap?(device: EmulatedDevice, iova: bigint, size: bigint): Promise<void>;
  ioctl?(device: EmulatedDevice, task: Task, request: number, arg: UserPointer): Promise<number>;
  read?(device: EmulatedDevice, into: Uint8Array, position: number): Promise<number>;
  write?(device: EmulatedDevice, bytes: Uint8Array, position: number): Promise<number>;
}

/** What an EmulatedDriver holds of its device; `vfioOf(platform).registerEmulated` makes it. */
export class EmulatedDevice {
  #users = 0;
  #pinner: Pinner | undefined;

  constructor(
    readonly group: VfioGroup,
    /** What GET_DEVICE_FD asks for: a mediated device's UUID. */
    readonly name: string,
    private readonly driver: EmulatedDriver,
    /** Whose PASIDs it uses; several may share one parent. Absent: processes cannot be bound to it. */
    readonly parent?: Device,
  ) {}

  get opened(): boolean {
    return this.#users > 0;
  }

  /** Under the group's lock; its container has an IOMMU. */
  async open(): Promise<FileOps> {
    if (this.#users === 0) {
      this.#register();
      try {
        await this.driver.openDevice?.(this);
      } catch (error) {
        await this.#unregister();
        throw error;
      }
    }
    if (this.#users++ === 0) this.group.get();
    const { driver, name } = this;
    return {
      name: `anon_inode:[vfio-device] ${name}`,
      ioctl: async (task, request, arg) => {
        if (!driver.ioctl) throw new IommuError("ENOTTY", `${name} has no ioctl ${hex(request)}`);
        return driver.ioctl(this, task, request, arg);
      },
      read: async (_task, into, position) => {
        if (!driver.read) throw new IommuError("EINVAL", `${name} cannot be read`);
        return driver.read(this, into, position);
      },
      write: async (_task, bytes, position) => {
        if (!driver.write) throw new IommuError("EINVAL", `${name} cannot be written`);
        return driver.write(this, bytes, position);
      },
      release: () => this.#put(),
    };
  }

  async #put(): Promise<void> {
    if (await this.group.lock.with(() => this.#close())) await this.group.put();
  }

  /** Whoever opens it anew waits until the driver has closed it. @returns whether this was the last close */
  async #close(): Promise<boolean> {
    if (this.#users === 1) {
      await this.driver.closeDevice?.(this);
      await this.#unregister();
    }
    return --this.#users === 0;
  }

  /** register_device: from now on the driver hears of unmaps. */
  #register(): void {
    const { driver, name } = this;
    if (!driver.dmaUnmap) return;
    this.#pinner = { name, dmaUnmap: async (iova, size) => driver.dmaUnmap?.(this, iova, size) };
    this.#iommu.pinners.add(this.#pinner);
  }

  /** Waits for a call that runs. */
  async #unregister(): Promise<void> {
    const pinner = this.#pinner;
    this.#pinner = undefined;
    const iommu = this.#iommu;
    if (pinner) await iommu.pinnersLock.with(() => void iommu.pinners.delete(pinner));
  }

  get #iommu(): VfioIommu {
    const iommu = this.group.container?.iommu;
    if (!iommu) throw new IommuError("EINVAL", `${this.name} is not open`);
    return iommu;
  }

  /**
   * Pins pages of the program, all or none, until as many calls of `unpinPages`. @returns physical addresses
   * @param prot IommuProt READ | WRITE
   * @throws IommuError EINVAL not open, no dmaUnmap, nothing mapped; E2BIG more than 512; EACCES v1; EPERM; EBUSY; EFAULT; ENOMEM
   */
  async pinPages(iova: bigint, count: number, prot: number): Promise<number[]> {
    if (!this.driver.dmaUnmap) throw new IommuError("EINVAL", `the driver of ${this.name} has no dmaUnmap`);
    return pinPages(this.#iommu, iova, count, prot);
  }

  async unpinPages(iova: bigint, count: number): Promise<void> {
    return unpinPages(this.#iommu, iova, count);
  }

  /** vfio_dma_rw. @throws IommuError EINVAL nothing to copy, not open, nothing mapped; EPERM; EBUSY; EFAULT */
  async dmaRead(iova: bigint, into: Uint8Array): Promise<void> {
    return this.#rw(iova, into, false);
  }

  async dmaWrite(iova: bigint, bytes: Uint8Array): Promise<void> {
    return this.#rw(iova, bytes, true);
  }

  async #rw(iova: bigint, bytes: Uint8Array, write: boolean): Promise<void> {
    if (bytes.length === 0) throw new IommuError("EINVAL", "no bytes to copy");
    return dmaRw(this.#iommu, iova, bytes, write);
  }
}
