/** The backends that a replay knows, by name; lazy is what iommu.strict=0 asks for. */
import type { IommuPlugin } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";

export const REPLAY_BACKENDS: Readonly<Record<string, (lazy: boolean) => IommuPlugin>> = {
  smmuv3: (lazy) => smmuv3({ strict: !lazy }),
  vtd: (lazy) => vtd({ strict: !lazy }),
};
