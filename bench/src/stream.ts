/** The address streams of the benchmarks; c/walker.c makes the same ones. */

/** 2^44: the first page of every table. */
export const VA_BASE_HI = 0x1000;
/** Requesters that take turns, and the PASID that they use. */
export const FIRST_RID = 8;
export const RIDS = 8;
export const PASID = 1;

export interface Case {
  /** As c/walker.c spells it: hit, walk or cold; seq or rand. */
  readonly name: string;
  readonly kind: "hit" | "walk" | "cold";
  readonly order: "seq" | "rand";
  /** 4 KiB pages of the footprint: a power of two. */
  readonly pages: number;
}

function mib(size: number): number {
  return size * 256;
}

/**
 * hit: with a TLB; 1 MiB always hits, larger footprints as far as it reaches. walk: no TLB, configuration cached.
 * cold: nothing cached.
 */
export const CASES: readonly Case[] = [
  { name: "hit-rand-1MiB", kind: "hit", order: "rand", pages: mib(1) },
  { name: "hit-seq-4MiB", kind: "hit", order: "seq", pages: mib(4) },
  { name: "hit-rand-4MiB", kind: "hit", order: "rand", pages: mib(4) },
  { name: "hit-seq-1GiB", kind: "hit", order: "seq", pages: mib(1024) },
  { name: "hit-rand-1GiB", kind: "hit", order: "rand", pages: mib(1024) },
  { name: "walk-seq-4MiB", kind: "walk", order: "seq", pages: mib(4) },
  { name: "walk-rand-4MiB", kind: "walk", order: "rand", pages: mib(4) },
  { name: "walk-seq-1GiB", kind: "walk", order: "seq", pages: mib(1024) },
  { name: "walk-rand-1GiB", kind: "walk", order: "rand", pages: mib(1024) },
  { name: "cold-seq-4MiB", kind: "cold", order: "seq", pages: mib(4) },
  { name: "cold-rand-4MiB", kind: "cold", order: "rand", pages: mib(4) },
  { name: "cold-seq-1GiB", kind: "cold", order: "seq", pages: mib(1024) },
  { name: "cold-rand-1GiB", kind: "cold", order: "rand", pages: mib(1024) },
];
