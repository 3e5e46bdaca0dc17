/** iommu_domain: an address space for DMA. VFIO compares the `ops` of two domains with ===. */
import type { IommuOps } from "./iommu-ops.js";

/** IOMMU_DOMAIN_*: what the domain is for. */
export type DomainType = "blocked" | "identity" | "dma" | "dma-fq" | "unmanaged" | "sva";

/** IOMMU_READ … of include/linux/iommu.h: the `prot` argument of iommu_map, and of VFIO's domain check. */
export const IommuProt = { READ: 1, WRITE: 2, CACHE: 4, NOEXEC: 8, MMIO: 16, PRIV: 32 } as const;

/** IOVAs that a domain can translate, both ends inclusive. */
export interface Aperture {
  /** First and last usable IOVA, both inclusive. */
  readonly start: bigint;
  readonly end: bigint;
}

/** Drivers extend it with their own state. */
export interface IommuDomain {
  readonly id: number;
  readonly type: DomainType;
  readonly ops: IommuOps;
  /** Page sizes that `map` takes, one bit each. */
  pgsizeBitmap: bigint;
  aperture: Aperture;
}

/** iommu_iotlb_gather: what an unmap left to be invalidated. The end is inclusive. */
export interface IotlbGather {
  start: bigint;
  end: bigint;
  pgsize: number;
  /** True when the unmap may be completed later in a batch (lazy mode). */
  queued: boolean;
  /** Physical addresses of page tables that the unmap took out: the driver frees them after the invalidation. */
  freelist: number[] | undefined;
}

/** An empty gather for `unmap` and `iotlbSync`. @param queued lazy mode: the flush queue invalidates later */
export function newGather(queued = false): IotlbGather {
  return { start: 0xffff_ffff_ffff_ffffn, end: 0n, pgsize: 0, queued, freelist: undefined };
}
