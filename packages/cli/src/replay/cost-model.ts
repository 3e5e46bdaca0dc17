/** Modelled time is counts times these figures. Each says where it comes from: measured, paper or assumed. */
import { type ReplayCounts, waits } from "./counts.js";

export interface Figure {
  readonly what: string;
  readonly nanoseconds: number;
  readonly origin: "measured" | "paper" | "assumed";
  readonly source: string;
  readonly count: (counts: ReplayCounts) => number;
}

const FAST_AND_SAFE = "Fast & Safe (SOSP'24) repository, no_ebpf.md: Linux 6.12.9, nested, strict, eBPF on";

export const COSTS: Readonly<Record<string, readonly Figure[]>> = {
  vtd: [
    {
      what: "map",
      nanoseconds: 858,
      origin: "measured",
      source: `__iommu_map mean; ${FAST_AND_SAFE}`,
      count: ({ maps }) => maps,
    },
    {
      what: "unmap",
      nanoseconds: 873,
      origin: "measured",
      source: `__iommu_unmap mean; ${FAST_AND_SAFE}`,
      count: ({ unmaps }) => unmaps,
    },
    {
      what: "wait",
      nanoseconds: 6958,
      origin: "measured",
      source: `qi_submit_sync mean; ${FAST_AND_SAFE}`,
      count: waits,
    },
  ],
  smmuv3: [
    {
      what: "map",
      nanoseconds: 2067,
      origin: "measured",
      source:
        "map of 4 KiB on SM8150 (SMMUv2, the same page table code), <20210811160426.10312-1-saiprakash.ranjan@codeaurora.org>",
      count: ({ maps }) => maps,
    },
    {
      what: "unmap",
      nanoseconds: 873,
      origin: "assumed",
      source: "no figure for SMMUv3 without its invalidation; VT-d's __iommu_unmap",
      count: ({ unmaps }) => unmaps,
    },
    {
      what: "wait",
      nanoseconds: 1111,
      origin: "assumed",
      source: "upper bound: a whole iommu_dma_unmap_sg on Ampere, local node (Ming Lei, <YOgK8fdv7dOQtkET@T590>)",
      count: waits,
    },
  ],
};

/** Modelled nanoseconds; undefined for a backend without figures. */
export function modelled(backend: string, counts: ReplayCounts): number | undefined {
  if (!Object.hasOwn(COSTS, backend)) return undefined;
  return COSTS[backend].reduce((sum, { nanoseconds, count }) => sum + nanoseconds * count(counts), 0);
}
