/** The IOMMUs behind which scenarios are explored: every feature, small caches and queues, so that they are made fast. */
import type { IommuPlugin } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";

export const EXPLORED_BACKENDS = {
  smmuv3: (): IommuPlugin => smmuv3({ queueShift: 7 }),
  vtd: (): IommuPlugin => vtd(),
} as const;

export type BackendName = keyof typeof EXPLORED_BACKENDS;
export const BACKEND_NAMES = Object.keys(EXPLORED_BACKENDS) as readonly BackendName[];
