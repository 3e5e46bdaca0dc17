/** iommu_capable(): enum iommu_cap of include/linux/iommu.h. */
export type IommuCap =
  | "cache-coherency"
  | "noexec"
  | "pre-boot-protection"
  | "enforce-cache-coherency"
  | "deferred-flush"
  | "dirty-tracking"
  | "isolated-msi";
