/** I/O page faults as drivers report them, and the answer to a group of them (include/linux/iommu.h). */
import type { Device } from "../iommu/device.js";

/** Access that was refused: IOMMU_FAULT_PERM_*; the same bits as Access. */
export const FaultPerm = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;

/** IOMMU_PAGE_RESP_*: SUCCESS retry, INVALID do not retry this one, FAILURE drop all that follow and disable PRI (E6). */
export type IopfResponseCode = "success" | "invalid" | "failure";

/** One page request, or one stalled transaction. */
export interface IopfFault {
  /** NO_PASID when the request had none. */
  readonly pasid: number;
  readonly grpid: number;
  readonly address: bigint;
  /** FaultPerm bits. */
  readonly perm: number;
  readonly last: boolean;
  /** The response has to carry the PASID (PRG Response PASID Required). */
  readonly responseNeedsPasid: boolean;
}

/** What IommuOps.pageResponse carries to the device. */
export interface IopfResponse {
  readonly pasid: number;
  readonly grpid: number;
  readonly code: IopfResponseCode;
  readonly responseNeedsPasid: boolean;
}

/** Where an IOMMU driver takes the faults of its devices: the SVA core implements it. */
export interface FaultSink {
  /**
   * Reports one request; must not sleep, callable from a driver's fault thread.
   * @throws IommuError EINVAL when the device has no handler: the driver answers the group itself (E14)
   */
  report(dev: Device, fault: IopfFault): void;
  /** The hardware queue overflowed: partial groups will never be completed (E12). */
  discardPartial(devices: Iterable<Device>): void;
}
