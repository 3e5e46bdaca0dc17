/** What a kernel did, in order, and the invalidation descriptors that it queued for it. */

/** First and second quad-word, as qi_submit prints them. */
export type QiDescriptor = readonly [bigint, bigint];

export interface Range {
  readonly iova: bigint;
  readonly size: bigint;
}
export interface Mapping extends Range {
  readonly pa: number;
}

interface Done {
  readonly line: number;
  readonly cpu: number;
  /** What Linux queued for it. */
  readonly expected: QiDescriptor[];
  /** Why what is expected may not be all. */
  doubt: string | undefined;
}

export interface Boot extends Done {
  readonly kind: "boot";
}
export interface Attach extends Done {
  readonly kind: "attach";
  device: string;
  /** Pointer of the domain, from a kprobe; absent in most traces. */
  readonly domain: string | undefined;
  did: number | undefined;
}
export interface Detach extends Done {
  readonly kind: "detach";
  device: string;
  readonly did: number;
}
/** One iommu_map, or what iommu_map_sg maps before it invalidates once. */
export interface MapStep extends Done {
  readonly kind: "map";
  readonly parts: Mapping[];
  domain: string | undefined;
  did: number | undefined;
}
/** One iommu_unmap, or those whose ranges are gathered for one invalidation. */
export interface UnmapStep extends Done {
  readonly kind: "unmap";
  /** A descriptor of its own has been announced or queued: it does not wait for a common one. */
  own: boolean;
  readonly parts: Range[];
  domain: string | undefined;
  did: number | undefined;
}
/** The whole domain at once: a flush queue was full, its timer ran, or a device came while the machine was running. */
export interface FlushAll extends Done {
  readonly kind: "flush";
  readonly did: number;
}
export type Step = Boot | Attach | Detach | MapStep | UnmapStep | FlushAll;

export interface Recording {
  readonly steps: readonly Step[];
  /** Unmaps wait for a common invalidation. */
  readonly lazy: boolean;
  /** The unit caches absent entries: maps are invalidated as well. */
  readonly cachingMode: boolean;
  readonly cpus: number;
  /** Pages are queued with the hint that only leaf entries changed and aligned to their mask (6.11 and later). */
  readonly hints: boolean;
  /** Lines that the comparison leaves out, by what they are. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** Descriptors that fit nothing that their thread had done. */
  readonly orphans: readonly { readonly line: number; readonly descriptor: QiDescriptor }[];
  /** Lines of known events whose text is not of the known form. */
  readonly unreadable: readonly { readonly line: number; readonly text: string }[];
}
