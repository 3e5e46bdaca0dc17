/** How one unit is driven: the kernel's command line and the firmware's DMAR table. */
import { type FlushQueueOptions, token } from "@iommukit/core";
import type { ReservedMemory } from "./reserved-regions.js";

/** For `vtd()`, with a preset. */
export interface VtdDriverOptions {
  /** The instance on the platform: "vtd". */
  readonly name: string;
  /** "legacy" is intel_iommu=sm_off; "scalable" refuses a unit that cannot; the best that the unit can when absent. */
  readonly mode?: "legacy" | "scalable";
  /** iommu.strict: false lets unmaps of kernel domains ("dma-fq") wait for a common invalidation. True when absent. */
  readonly strict?: boolean;
  readonly flushQueue?: FlushQueueOptions;
  /** Linux up to 6.12: a write-only mapping of the second stage is readable. */
  readonly writeImpliesRead?: boolean;
  /** Linux 7.3: fault messages name the device with its PCI segment. */
  readonly segmentInMessages?: boolean;
  /** Linux: AW stands in every PASID table entry, also where there is no second stage and the field is reserved. */
  readonly widthAlways?: boolean;
  /** RMRR. */
  readonly reservedMemory?: readonly ReservedMemory[];
  /** Index of the unit: n in "dmarN". */
  readonly index?: number;
}
export const VtdDriverOptions = token<VtdDriverOptions>("VtdDriverOptions");
