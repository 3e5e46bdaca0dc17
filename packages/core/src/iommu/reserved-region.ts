/** iommu_resv_region: IOVAs that a device must not use for mappings, or must have mapped one to one (F24). */

/** As in /sys/kernel/iommu_groups/N/reserved_regions: direct ones are mapped one to one, the others are kept free of mappings. */
export type ReservedRegionType = "direct" | "direct-relaxable" | "reserved" | "msi" | "sw-msi";

/** `start` is an IOVA, `length` in bytes, `prot` IommuProt bits. */
export interface ReservedRegion {
  readonly start: bigint;
  readonly length: bigint;
  readonly type: ReservedRegionType;
  readonly prot: number;
}
