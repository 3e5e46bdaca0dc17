/** The backends that a comparison knows, by name. */
import type { IommuPlugin } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";

export const BACKENDS: Readonly<Record<string, () => IommuPlugin>> = {
  smmuv3: () => smmuv3(),
  vtd: () => vtd(),
};
