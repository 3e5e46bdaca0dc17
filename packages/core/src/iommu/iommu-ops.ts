/**
 * struct iommu_ops: what the kernel knows of an IOMMU driver. One object per driver instance; VFIO decides with
 * `a.ops === b.ops` whether two domains come from the same one.
 *
 * Contract: every function that may wait for hardware or sleep is async, or answers with undefined when it did not have to.
 * `map` and `unmap` only change tables; the caller then calls `iotlbSyncMap` or `iotlbSync`. Refusals throw IommuError and leave nothing half-done.
 */

import type { IopfResponse } from "../iopf/fault.js";
import type { MaySleep } from "../kernel/may-sleep.js";
import type { Mm } from "../mm/mm.js";
import type { SvaParam } from "../sva/device-init.js";
import type { IoMm } from "../sva/io-mm.js";
import type { IommuCap } from "./capabilities.js";
import type { Device } from "./device.js";
import type { DomainType, IommuDomain, IotlbGather } from "./domain.js";
import type { ReservedRegion } from "./reserved-region.js";

/** What mmAlloc returns: the driver's state for one address space (a shared CD, a PASID table entry's contents). */
export type IoMmContext = object;

/** What an IOMMU driver implements; with all of SvaOps processes can be bound behind it. */
export interface IommuOps extends Partial<SvaOps> {
  /** "arm-smmu-v3", "intel-iommu": drivers/iommu's own names. */
  readonly name: string;

  capable(dev: Device, cap: IommuCap): boolean;
  /** @throws IommuError ENODEV when the device is not behind this IOMMU, ERANGE when its id is beyond the tables */
  probeDevice(dev: Device): Promise<void>;
  releaseDevice(dev: Device): Promise<void>;
  reservedRegions(dev: Device): readonly ReservedRegion[];

  /** @throws IommuError EOPNOTSUPP for a type that the hardware cannot do, ENOMEM */
  domainAlloc(type: DomainType, dev: Device): IommuDomain;
  domainFree(domain: IommuDomain): void;
  /**
   * VFIO_TYPE1_NESTING_IOMMU: an unmanaged domain that is not attached yet translates at stage 2. Absent: the driver has no such kind.
   * @throws IommuError EBUSY attached already; EOPNOTSUPP no stage 2
   */
  enableNesting?(domain: IommuDomain): void;
  /** Leaves the device on its old domain when it throws. */
  attachDev(domain: IommuDomain, dev: Device): Promise<void>;
  /** Back to blocked. Removes all bonds of the device first. */
  detachDev(domain: IommuDomain, dev: Device): Promise<void>;
  /**
   * Around a reset of the device: between the two it reaches nothing, and nothing of it is invalidated, as it would not answer.
   * Its domain and its bonds stay. Absent: the driver asks the device for nothing.
   */
  resetPrepare?(dev: Device): Promise<void>;
  resetDone?(dev: Device): Promise<void>;

  /**
   * Maps `count` pages of `pgsize` bytes. @returns bytes mapped; less than asked only when a table could not be allocated
   * @throws IommuError EEXIST over a mapping, ERANGE outside of the aperture, EINVAL for a size not in pgsizeBitmap
   */
  map(domain: IommuDomain, iova: bigint, pa: number, pgsize: number, count: number, prot: number): number;
  /** @returns bytes unmapped; 0 when nothing was mapped at `iova` */
  unmap(domain: IommuDomain, iova: bigint, pgsize: number, count: number, gather: IotlbGather): number;
  iotlbSyncMap(domain: IommuDomain, iova: bigint, size: bigint): MaySleep;
  iotlbSync(domain: IommuDomain, gather: IotlbGather): MaySleep;
  flushIotlbAll(domain: IommuDomain): MaySleep;
  iovaToPhys(domain: IommuDomain, iova: bigint): number | undefined;
  /** Makes every access of the domain snooped, for good. @returns false when the hardware cannot */
  enforceCacheCoherency(domain: IommuDomain): boolean;
}

/** Shared virtual addressing, as in the 2018 series (A15). A driver has all of it, or none: then nothing can be bound. */
export interface SvaOps {
  /** Enables PASID, ATS and PRI or stall for the device; may lower `param.maxPasid` and raise `param.minPasid`. */
  svaDeviceInit(dev: Device, param: SvaParam): Promise<void>;
  svaDeviceShutdown(dev: Device, param: SvaParam): Promise<void>;
  /** @throws IommuError ENOMEM, EOPNOTSUPP when the process's page tables do not fit the hardware */
  mmAlloc(domain: IommuDomain, mm: Mm, flags: number): Promise<IoMmContext>;
  /** Must not sleep. */
  mmFree(context: IoMmContext): void;
  /** @param attachDomain first bond of this address space in the domain: write the PASID table entry */
  mmAttach(domain: IommuDomain, dev: Device, ioMm: IoMm, attachDomain: boolean): Promise<void>;
  /** @param detachDomain last bond in the domain: clear the PASID table entry, invalidate, drain */
  mmDetach(domain: IommuDomain, dev: Device, ioMm: IoMm, detachDomain: boolean): Promise<void>;
  /** The process is going away: translations stop, quietly, the entry stays until mmDetach (C9, C10). */
  mmExit(domain: IommuDomain, dev: Device, ioMm: IoMm): Promise<void>;
  /** IOTLB first, then the device's ATC; returns when nobody uses the range any more. `size` in bytes; 2^64 is everything. */
  mmInvalidate(domain: IommuDomain, dev: Device, ioMm: IoMm, start: bigint, size: bigint): Promise<void>;
  /** Answers a page request group or a stalled transaction. */
  pageResponse(dev: Device, response: IopfResponse): Promise<void>;
}
