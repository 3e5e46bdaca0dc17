/** vfio_mm: an address space that is bound to every device of a container (patch 13/40). */
import type { Mm } from "@iommukit/core";

export const VFIO_PASID_INVALID = -1;

export class VfioMm {
  pasid = VFIO_PASID_INVALID;

  constructor(readonly mm: Mm) {}
}
