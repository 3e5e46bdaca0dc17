/**
 * The TLB: set-associative, entries of every page and block size, tagged as 3.17 demands. VA entries hold what one or
 * both stages made of a virtual address; IPA entries hold stage 2 alone, for stage-2-only streams and for the tables
 * and descriptors of nested ones. Nothing is dropped but by replacement and by the right invalidation.
 * `private`, not `#`: its byte code is shorter, and the compiler inlines only so much of it.
 */
import type { SetAssociative } from "../presets.js";
import { highMaskFrom, lowMaskFrom } from "./address-bits.js";
import { ENTRY, ORIGIN, TAG, TLB_KIND, tlbGlobalTag, tlbOrigin, tlbTag, tlbTags } from "./tlb-entry.js";
import { covers, type TlbScope } from "./tlb-scope.js";

const TAG_SHIFT = TAG.SHIFT;
const PAGE_TAG = 12 << TAG.SHIFT;
const PAGE = -1 << 12;
const TAG_VALID = TAG.VALID;
/** Words of an entry, for this file's loops. */
const { VA_HI, ASID_VMID, ORIGIN: ORIGIN_WORD, NEXT, BUCKET, WORDS } = ENTRY;
const TAG_WORD = ENTRY.TAG;
/** Lookups go through a hash table with this many buckets for each entry; the sets decide on replacement alone. */
const BUCKETS = 4;
const NONE = -1;
const { imul } = Math;

/** What a lookup for entries of one size has to know. */
interface EntrySize {
  /** In the tag. */
  readonly tag: number;
  readonly lowMask: number;
  readonly highMask: number;
  larger: EntrySize | null;
}

export class TranslationCache {
  readonly words: Int32Array;
  /** 0: there is no cache, and nothing need be looked for or inserted. */
  readonly entries: number = 0;
  /** Sizes of entries that may be there. */
  private smallest: EntrySize | null = null;
  private readonly admitted = new Uint8Array(64);
  private readonly victims: Uint8Array;
  /** Where the first entry of each bucket begins. */
  private readonly buckets: Int32Array;
  private readonly bucketMask: number = 0;
  private readonly setMask: number = 0;
  private readonly ways: number = 0;
  /** Words of a set. */
  private readonly stride: number = 0;
  /** 1 once global entries have been inserted. */
  globals = 0;
  /** Number of valid entries. */
  private size = 0;

  constructor(geometry: SetAssociative) {
    // Rounded up to a power of two; a cache without sets has one bucket, which stays empty.
    const buckets = 1 << (32 - Math.clz32(geometry.sets * geometry.ways * BUCKETS - 1));
    this.buckets = new Int32Array(buckets).fill(NONE);
    this.bucketMask = buckets - 1;
    this.setMask = geometry.sets - 1;
    this.ways = geometry.ways;
    this.stride = geometry.ways * WORDS;
    this.entries = geometry.sets * geometry.ways;
    this.words = new Int32Array(Math.max(1, this.entries) * WORDS);
    this.victims = new Uint8Array(geometry.sets);
  }

  /** Index of the entry's first word, or -1. */
  lookup(kind: number, world: number, asid: number, aset: number, vmid: number, hi: number, lo: number): number {
    const own = this.find(tlbTag(kind, world), tlbTags(asid, vmid), hi, lo);
    if (own >= 0 || this.globals === 0 || kind !== TLB_KIND.VA) return own;
    return this.find(tlbGlobalTag(kind, world, aset), tlbTags(0, vmid), hi, lo);
  }

  /** The smallest entry there is. `tag` is of `tlbTag`, `tags` of `tlbTags`. @returns index of the first word, or -1 */
  find(tag: number, tags: number, hi: number, lo: number): number {
    const { words } = this;
    for (let { smallest: size } = this; size !== null; size = size.larger) {
      const wanted = tag | size.tag;
      const pageLo = lo & size.lowMask;
      const pageHi = hi & size.highMask;
      let at = this.buckets[hashOf(wanted, tags, pageHi, pageLo) & this.bucketMask];
      // `is`, written out: this is asked for each transaction.
      for (; at >= 0; at = words[at + NEXT])
        if (
          words[at] === pageLo &&
          words[at + VA_HI] === pageHi &&
          words[at + TAG_WORD] === wanted &&
          words[at + ASID_VMID] === tags
        )
          return at;
    }
    return NONE;
  }

  /** From now on lookups try that page size as well; smaller ones first. */
  private admit(shift: number): void {
    this.admitted[shift] = 1;
    let smaller: EntrySize | null = null;
    let larger = this.smallest;
    for (; larger !== null && larger.tag < shift << TAG_SHIFT; larger = larger.larger) smaller = larger;
    const size = { tag: shift << TAG_SHIFT, lowMask: lowMaskFrom(shift), highMask: highMaskFrom(shift), larger };
    if (smaller === null) this.smallest = size;
    else smaller.larger = size;
  }

  /**
   * Room for an entry; the caller fills the words from OUT_LO on. Any page size; addresses are cut to it. Returns -1
   * when this chip has no TLB.
   */
  insert(
    kind: number,
    world: number,
    asid: number,
    aset: number,
    vmid: number,
    global: boolean,
    hi: number,
    lo: number,
    shift: number,
    level: number,
    granule: number,
    span: number,
  ): number {
    if (this.entries === 0) return -1;
    if (global) this.globals = 1;
    const pageHi = hi & highMaskFrom(shift);
    const pageLo = lo & lowMaskFrom(shift);
    const tags = tlbTags(global ? 0 : asid, vmid);
    const kin = global ? tlbGlobalTag(kind, world, aset) : tlbTag(kind, world);
    const tag = kin | (shift << TAG_SHIFT);
    const hash = hashOf(tag, tags, pageHi, pageLo);
    let at = this.buckets[hash & this.bucketMask];
    while (at >= 0 && !this.is(at, tag, tags, pageHi, pageLo)) at = this.words[at + NEXT];
    if (at < 0) at = this.place(hash, tag, tags, pageHi, pageLo);
    this.words[at + ORIGIN_WORD] = tlbOrigin(level, granule, span, aset);
    return at;
  }

  private is(at: number, tag: number, tags: number, pageHi: number, pageLo: number): boolean {
    const { words } = this;
    const sameTags = words[at + TAG_WORD] === tag && words[at + ASID_VMID] === tags;
    return sameTags && words[at + VA_HI] === pageHi && words[at] === pageLo;
  }

  /** Room for a page of level 3 that is not global and that `find` has just missed; the caller fills ORIGIN as well. */
  insertPage(tag: number, tags: number, hi: number, lo: number): number {
    const wanted = tag | PAGE_TAG;
    const pageLo = lo & PAGE;
    return this.place(hashOf(wanted, tags, hi, pageLo), wanted, tags, hi, pageLo);
  }

  private place(hash: number, tag: number, tags: number, pageHi: number, pageLo: number): number {
    if (this.admitted[tag >>> TAG_SHIFT] === 0) this.admit(tag >>> TAG_SHIFT);
    const { words } = this;
    const at = this.victim(hash & this.setMask);
    if ((words[at + TAG_WORD] & TAG_VALID) !== 0) this.unlink(at);
    else this.size++;
    const bucket = hash & this.bucketMask;
    words[at + BUCKET] = bucket;
    words[at + NEXT] = this.buckets[bucket];
    this.buckets[bucket] = at;
    words[at] = pageLo;
    words[at + VA_HI] = pageHi;
    words[at + TAG_WORD] = tag;
    words[at + ASID_VMID] = tags;
    return at;
  }

  /** Takes an entry out of its bucket. */
  private unlink(at: number): void {
    const { words } = this;
    const next = words[at + NEXT];
    const bucket = words[at + BUCKET];
    let before = this.buckets[bucket];
    if (before === at) {
      this.buckets[bucket] = next;
      return;
    }
    while (words[before + NEXT] !== at) before = words[before + NEXT];
    words[before + NEXT] = next;
  }

  /** An entry of the set that is free, or the next to be replaced. */
  private victim(set: number): number {
    const { words } = this;
    const first = set * this.stride;
    if (this.size < this.entries) {
      const end = first + this.stride;
      for (let at = first; at < end; at += WORDS) if ((words[at + TAG_WORD] & TAG_VALID) === 0) return at;
    }
    const way = this.victims[set];
    this.victims[set] = way + 1 === this.ways ? 0 : way + 1;
    return first + way * WORDS;
  }

  shiftOf(at: number): number {
    return this.words[at + TAG_WORD] >>> TAG.SHIFT;
  }

  levelOf(at: number): number {
    return (this.words[at + ORIGIN_WORD] >>> ORIGIN.LEVEL) & 3;
  }

  /** Where the entries that can be found begin in `words`; for reports. */
  *contents(): Generator<number> {
    for (let at = 0; at < this.words.length; at += WORDS) if ((this.words[at + TAG_WORD] & TAG_VALID) !== 0) yield at;
  }

  /** TLB_KIND. */
  kindOf(at: number): number {
    return (this.words[at + TAG_WORD] >>> TAG.KIND) & 1;
  }

  clear(): void {
    this.words.fill(0);
    this.buckets.fill(NONE);
    this.size = 0;
  }

  /** Takes out what the scope covers; answers how many entries. */
  invalidate(scope: TlbScope): number {
    if (this.size === 0) return 0;
    let count = 0;
    for (let at = 0; at < this.words.length; at += WORDS) {
      if ((this.words[at + TAG_WORD] & TAG_VALID) === 0 || !covers(scope, this.words, at)) continue;
      this.unlink(at);
      this.words[at + TAG_WORD] = 0;
      count++;
    }
    this.size -= count;
    return count;
  }
}

/** Low halves of pages that are larger than 4 GiB are 0; the upper bits of the product are those that all bits of the tags move. */
function hashOf(tag: number, tags: number, pageHi: number, pageLo: number): number {
  const page = (pageLo >>> (tag >>> TAG_SHIFT)) ^ pageHi ^ (pageHi >>> 7);
  return page ^ (page >>> 9) ^ (imul(tags, 0x9e37_79b1) >>> 16);
}
