/** An entry of the TLB: its words, and what its tag and permissions say (3.17). */

export const TLB_KIND = { VA: 0, IPA: 1 } as const;

/** Words of an entry. */
export const ENTRY = {
  VA_LO: 0,
  VA_HI: 1,
  /** Whether it is valid and what it is looked for by: TAG. 0 where there is none. */
  TAG: 2,
  /** asid in 15:0 (0 for global entries), vmid in 31:16. */
  ASID_VMID: 3,
  OUT_LO: 4,
  OUT_HI: 5,
  /** Stage 1 permissions, stage 2 permissions, flags: PERM. */
  PERMS: 6,
  IPA_LO: 7,
  IPA_HI: 8,
  /** What invalidations ask besides: ORIGIN. */
  ORIGIN: 9,
  /** Where the next entry of the same bucket begins; NONE behind the last one. */
  NEXT: 10,
  /** Whose it is. */
  BUCKET: 11,
  WORDS: 12,
} as const;

/** Fields of the word TAG, as bits and lowest bits. */
export const TAG = {
  VALID: 1,
  KIND: 1,
  WORLD: 2,
  GLOBAL: 1 << 4,
  /** Of global entries alone. */
  ASET: 5,
  /** log2 of the entry's size; nothing lies above it. */
  SHIFT: 6,
} as const;

/** Fields of the word ORIGIN: the descriptor that the entry comes from. */
export const ORIGIN = {
  LEVEL: 0,
  GRANULE: 2,
  /** log2 of the stage's own page or block: an invalidation inside of it takes every fragment. */
  SPAN: 4,
  ASET: 10,
} as const;

/** Permissions as bits: unprivileged and privileged read, write, execute; stage 2's eight bits higher. */
export const PERM = {
  UR: 1,
  UW: 2,
  UX: 4,
  PR: 8,
  PW: 16,
  PX: 32,
  ALL: 63,
  STAGE2: 8,
  /** A write needs the descriptor marked dirty first: the entry does not answer it. */
  S1_CLEAN: 1 << 16,
  S2_CLEAN: 1 << 17,
  /** Stage 2 maps the page as Device memory. */
  S2_DEVICE: 1 << 18,
} as const;

/** The tag of an entry without its size. */
export function tlbTag(kind: number, world: number): number {
  return TAG.VALID | (kind << TAG.KIND) | (world << TAG.WORLD);
}

export function tlbGlobalTag(kind: number, world: number, aset: number): number {
  return tlbTag(kind, world) | TAG.GLOBAL | (aset << TAG.ASET);
}

export function tlbTags(asid: number, vmid: number): number {
  return asid | (vmid << 16);
}

/** Of an entry from a table of 2^granule bytes a page. */
export function tlbOrigin(level: number, granule: number, span: number, aset: number): number {
  const tg = granuleCode(granule);
  return (level << ORIGIN.LEVEL) | (tg << ORIGIN.GRANULE) | (span << ORIGIN.SPAN) | (aset << ORIGIN.ASET);
}

/** TG of a range invalidation by the granule's log2: 1, 2, 3 for 4, 16, 64 KiB. */
function granuleCode(granule: number): number {
  return (granule - 10) >> 1;
}
