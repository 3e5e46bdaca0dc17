/** Modelled time is counts times these figures. Each says where it comes from: measured, paper or assumed. */
import type { Backend } from "../backends.js";
import { type Counts, sum, waits } from "./counts.js";

export interface Figure {
  readonly what: "map" | "unmap" | "wait" | "table read";
  readonly nanoseconds: number;
  readonly origin: "measured" | "paper" | "assumed";
  readonly source: string;
}

const GUEST = "Fast & Safe (SOSP'24) repository, no_ebpf.md: Linux 6.12.9, nested, strict, eBPF on";

/** Of Fast & Safe's fit: a page takes l0, and each table read of its translation lm; within 10 % of their measurements. */
export const FAST_AND_SAFE = { l0: 65, lm: 197, source: "Fast & Safe, SOSP'24, doi 10.1145/3694715.3695943" } as const;

const COSTS: Readonly<Record<Backend["name"], readonly Figure[]>> = {
  vtd: [
    { what: "map", nanoseconds: 858, origin: "measured", source: `__iommu_map mean; ${GUEST}` },
    { what: "unmap", nanoseconds: 873, origin: "measured", source: `__iommu_unmap mean; ${GUEST}` },
    { what: "wait", nanoseconds: 6958, origin: "measured", source: `qi_submit_sync mean; ${GUEST}` },
    {
      what: "table read",
      nanoseconds: FAST_AND_SAFE.lm,
      origin: "paper",
      source: `fitted lm on Cascade Lake; ${FAST_AND_SAFE.source}`,
    },
  ],
  smmuv3: [
    {
      what: "map",
      nanoseconds: 2067,
      origin: "measured",
      source:
        "map of 4 KiB on SM8150 (SMMUv2, the same page table code), <20210811160426.10312-1-saiprakash.ranjan@codeaurora.org>",
    },
    {
      what: "unmap",
      nanoseconds: 873,
      origin: "assumed",
      source: "no figure for SMMUv3 without its invalidation; VT-d's __iommu_unmap",
    },
    {
      what: "wait",
      nanoseconds: 1111,
      origin: "assumed",
      source: "upper bound: a whole iommu_dma_unmap_sg on Ampere, local node (Ming Lei, <YOgK8fdv7dOQtkET@T590>)",
    },
    {
      what: "table read",
      nanoseconds: FAST_AND_SAFE.lm,
      origin: "assumed",
      source: `no figure for an SMMUv3; that of Cascade Lake, ${FAST_AND_SAFE.source}`,
    },
  ],
};

/** Table reads cost the device time, and only an access pattern makes them. */
export function figures(backend: Backend["name"], accesses: boolean): readonly Figure[] {
  return COSTS[backend].filter(({ what }) => accesses || what !== "table read");
}

function cost(backend: Backend["name"], what: Figure["what"]): number {
  return COSTS[backend].find((figure) => figure.what === what)?.nanoseconds ?? 0;
}

/** Nanoseconds that the CPU spends mapping, unmapping and waiting for invalidations. */
export function cpuTime(backend: Backend["name"], counts: Counts): number {
  const { maps, unmaps } = counts;
  return maps * cost(backend, "map") + unmaps * cost(backend, "unmap") + waits(counts) * cost(backend, "wait");
}

/** Nanoseconds that the device waits for table reads. */
export function walkTime(backend: Backend["name"], { reads }: Counts): number {
  return sum(reads) * cost(backend, "table read");
}
