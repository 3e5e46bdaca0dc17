/** iommu_group: the smallest set of devices that the IOMMU can tell apart from all others. */
import type { Mutex } from "../kernel/mutex.js";
import type { Device } from "./device.js";
import type { IommuDomain } from "./domain.js";

/** Its `id` is N in /dev/vfio/N and /sys/kernel/iommu_groups/N. */
export class IommuGroup {
  readonly devices: Device[] = [];
  /** The domain it is attached to now; undefined while every DMA of it is blocked. */
  domain: IommuDomain | undefined;
  /** What the kernel's drivers use. */
  defaultDomain: IommuDomain | undefined;
  /** Devices that are being reset: they are kept out, and the group's domain and processes stay as they are meanwhile. */
  readonly resetting = new Set<Device>();
  /** Who owns its DMA (iommu_group_claim_dma_owner); undefined: the kernel's drivers. */
  owner: unknown;

  constructor(
    readonly id: number,
    /** group->mutex. */
    readonly mutex: Mutex,
  ) {}
}
