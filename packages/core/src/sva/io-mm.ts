/** io_mm: one process address space as IOMMUs see it; one per mm, whatever the number of devices and domains (B1). */
import type { IoMmContext, SvaOps } from "../iommu/iommu-ops.js";
import type { Mm } from "../mm/mm.js";
import type { Bond } from "./bond.js";

/** Found by PASID or by mm; one PASID for all devices. */
export interface IoMm {
  readonly mm: Mm;
  /** The same value on every device. */
  readonly pasid: number;
  /** IOMMU_SVA_FEAT_* that its first bind asked for. */
  readonly flags: number;
  /** References: one per bond, and one per lookup in flight. */
  readonly refs: number;
  readonly devices: ReadonlySet<Bond>;
  /** The drivers' state. On a real machine there is one IOMMU driver; here one process may be bound behind several. */
  readonly contexts: ReadonlyMap<SvaOps, IoMmContext>;
}
