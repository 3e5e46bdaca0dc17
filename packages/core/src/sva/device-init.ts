/** iommu_sva_param and the features of iommu_sva_device_init (A1–A5). */
import type { Device } from "../iommu/device.js";
import type { Bond } from "./bond.js";

/** IOMMU_SVA_FEAT_IOPF: the device can recover from I/O page faults; without it the caller pins what it shares. */
export const IOMMU_SVA_FEAT_IOPF = 1 << 0;

/**
 * Called when a bound process exits, before its mappings go. When it returns, the device must not use the PASID again.
 * Non-zero: the device could not be stopped; the core warns of a possible leak, and keeps the PASID taken until the device
 * has been shut down (C4). It may sleep, and take locks that nobody holds while unbinding or dropping the last reference (B9).
 */
export type MmExitHandler = (dev: Device, pasid: number, drvdata: unknown) => Promise<number>;

/** What a device can do, as its driver and its IOMMU agree; PASID limits are inclusive. */
export interface SvaParam {
  readonly features: number;
  /** Lowest and highest PASID of the device, inclusive; IOMMU drivers narrow them in svaDeviceInit (A3). */
  minPasid: number;
  maxPasid: number;
  readonly mmExit: MmExitHandler | undefined;
  readonly mmList: ReadonlySet<Bond>;
}
