/**
 * The TLB: set-associative, entries of every page and block size, tagged as 3.17 demands. VA entries hold what one or
 * both stages made of a virtual address; IPA entries hold stage 2 alone, for stage-2-only streams and for the tables
 * and descriptors of nested ones. Nothing is dropped but by replacement and by the right invalidation.
 */
import type { SetAssociative } from "../presets.js";
import { highMaskFrom, lowMaskFrom } from "./address-bits.js";
import { ENTRY, granuleCode, TAG, TLB_KIND, tlbTag, tlbTags } from "./tlb-entry.js";
import { covers, type TlbScope } from "./tlb-scope.js";

const TAG_SHIFT = TAG.SHIFT;
const TAG_VALID = TAG.VALID;
const MATCH_OWN = TAG.VALID | (1 << TAG.KIND) | (3 << TAG.WORLD) | TAG.GLOBAL | (0x3f << TAG.SHIFT);
const MATCH_GLOBAL = MATCH_OWN | (1 << TAG.ASET);

/** Words of an entry, for this file's loops. */
const { VA_HI, ASID_VMID, NEXT, WORDS } = ENTRY;
const TAG_WORD = ENTRY.TAG;
const SIZE_WORDS = 3;
/** Lookups go through a hash table with this many buckets for each entry; the sets decide on replacement alone. */
const BUCKETS = 4;
const NONE = -1;

export class TranslationCache {
  readonly words: Int32Array;
  /** 0: there is no cache, and nothing need be looked for or inserted. */
  readonly entries: number = 0;
  /** Page sizes of entries that may be there, as log2, smallest first; for lookups with the masks of a page's address. */
  readonly #known: number[] = [];
  readonly #admitted = new Uint8Array(64);
  readonly #sizes = new Int32Array(64 * SIZE_WORDS);
  #sizesEnd = 0;
  readonly #victims: Uint8Array;
  /** The first of them, where it is below 4 GiB, and the mask of a page's address in the low half. */
  #smallest = 12;
  #smallestMask = -1 << 12;
  /** Of the sizes that `find` does not look at itself. */
  #others = 0;
  /** Where the first entry of each bucket begins. */
  readonly #buckets: Int32Array;
  readonly #bucketMask: number = 0;
  readonly #setMask: number = 0;
  readonly #ways: number = 0;
  /** Words of a set. */
  readonly #stride: number = 0;
  /** 1 once global entries have been inserted. */
  globals = 0;
  /** Number of valid entries. */
  #size = 0;

  constructor(geometry: SetAssociative) {
    // Rounded up to a power of two; a cache without sets has one bucket, which stays empty.
    const buckets = 1 << (32 - Math.clz32(geometry.sets * geometry.ways * BUCKETS - 1));
    this.#buckets = new Int32Array(buckets).fill(NONE);
    this.#bucketMask = buckets - 1;
    this.#setMask = geometry.sets - 1;
    this.#ways = geometry.ways;
    this.#stride = geometry.ways * WORDS;
    this.entries = geometry.sets * geometry.ways;
    this.words = new Int32Array(Math.max(1, this.entries) * WORDS);
    this.#victims = new Uint8Array(geometry.sets);
  }

  /** Index of the entry's first word, or -1. */
  lookup(kind: number, world: number, asid: number, aset: number, vmid: number, hi: number, lo: number): number {
    const tag = tlbTag(kind, world);
    const own = this.find(tag, tlbTags(asid, vmid), hi, lo);
    if (own >= 0 || this.globals === 0 || kind !== TLB_KIND.VA) return own;
    return this.#probe(0, tag | TAG.GLOBAL | (aset << TAG.ASET), tlbTags(0, vmid), hi, lo, MATCH_GLOBAL);
  }

  /**
   * Entries that are not global. `tag` is of `tlbTag`, `tags` of `tlbTags`. The smallest page size is looked for here: that
   * answers nearly always. @returns index of the first word, or -1
   */
  find(tag: number, tags: number, hi: number, lo: number): number {
    const at = this.#inBucket(tag, tags, hi, lo & this.#smallestMask, this.#smallest, MATCH_OWN);
    return at >= 0 || this.#others === this.#sizesEnd ? at : this.#probe(this.#others, tag, tags, hi, lo, MATCH_OWN);
  }

  /** Tries every page size that may be there, from one of `#sizes` on. */
  #probe(first: number, tag: number, tags: number, hi: number, lo: number, mask: number): number {
    const sizes = this.#sizes;
    for (let size = first; size < this.#sizesEnd; size += SIZE_WORDS) {
      const at = this.#inBucket(tag, tags, hi & sizes[size + 2], lo & sizes[size + 1], sizes[size], mask);
      if (at >= 0) return at;
    }
    return -1;
  }

  #inBucket(tag: number, tags: number, pageHi: number, pageLo: number, shift: number, mask: number): number {
    const wanted = tag | (shift << TAG_SHIFT);
    const { words } = this;
    for (let at = this.#buckets[hashOf(pageHi, pageLo, shift, tags) & this.#bucketMask]; at >= 0; at = words[at + NEXT])
      if (
        words[at] === pageLo &&
        words[at + VA_HI] === pageHi &&
        (words[at + TAG_WORD] & mask) === wanted &&
        words[at + ASID_VMID] === tags
      )
        return at;
    return NONE;
  }

  /** From now on lookups try that page size as well; smaller ones first. */
  #admit(shift: number): void {
    this.#admitted[shift] = 1;
    this.#known.push(shift);
    this.#known.sort((a, b) => a - b);
    this.#sizes.set(this.#known.flatMap((each) => [each, lowMaskFrom(each), highMaskFrom(each)]));
    this.#sizesEnd = this.#known.length * SIZE_WORDS;
    this.#smallest = this.#known[0] & 31;
    this.#smallestMask = -1 << this.#smallest;
    this.#others = this.#known[0] < 32 ? SIZE_WORDS : 0;
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
    const kin = tlbTag(kind, world) | (global ? TAG.GLOBAL | (aset << TAG.ASET) : 0);
    const tag =
      kin |
      (aset << TAG.ASET) |
      (shift << TAG.SHIFT) |
      (level << TAG.LEVEL) |
      (granuleCode(granule) << TAG.GRANULE) |
      (span << TAG.SPAN);
    const same = this.#inBucket(kin, tags, pageHi, pageLo, shift, global ? MATCH_GLOBAL : MATCH_OWN);
    return same >= 0 ? this.#write(same, tag, tags, pageHi, pageLo) : this.#place(tag, tags, pageHi, pageLo, shift);
  }

  /** Room for a 4 KiB page that `find` has just missed. `tag` is of `tlbPageTag`, `tags` of `tlbTags`. */
  insertPage(tag: number, tags: number, hi: number, lo: number): number {
    return this.#place(tag, tags, hi, lo & (-1 << 12), 12);
  }

  #place(tag: number, tags: number, pageHi: number, pageLo: number, shift: number): number {
    if (this.#admitted[shift] === 0) this.#admit(shift);
    const hash = hashOf(pageHi, pageLo, shift, tags);
    const at = this.#victim(hash & this.#setMask);
    if ((this.words[at + TAG_WORD] & TAG_VALID) !== 0) this.#unlink(at);
    else this.#size++;
    const bucket = hash & this.#bucketMask;
    this.words[at + NEXT] = this.#buckets[bucket];
    this.#buckets[bucket] = at;
    return this.#write(at, tag, tags, pageHi, pageLo);
  }

  /** Takes an entry out of its bucket. */
  #unlink(at: number): void {
    const { words } = this;
    const next = words[at + NEXT];
    const bucket = hashOf(words[at + VA_HI], words[at], this.shiftOf(at), words[at + ASID_VMID]) & this.#bucketMask;
    let before = this.#buckets[bucket];
    if (before === at) {
      this.#buckets[bucket] = next;
      return;
    }
    while (words[before + NEXT] !== at) before = words[before + NEXT];
    words[before + NEXT] = next;
  }

  #write(at: number, tag: number, tags: number, pageHi: number, pageLo: number): number {
    const { words } = this;
    words[at] = pageLo;
    words[at + VA_HI] = pageHi;
    words[at + TAG_WORD] = tag;
    words[at + ASID_VMID] = tags;
    return at;
  }

  /** An entry of the set that is free, or the next to be replaced. */
  #victim(set: number): number {
    const { words } = this;
    const first = set * this.#stride;
    if (this.#size < this.entries) {
      const end = first + this.#stride;
      for (let at = first; at < end; at += WORDS) if ((words[at + TAG_WORD] & TAG_VALID) === 0) return at;
    }
    const way = this.#victims[set];
    this.#victims[set] = way + 1 === this.#ways ? 0 : way + 1;
    return first + way * WORDS;
  }

  shiftOf(at: number): number {
    return (this.words[at + TAG_WORD] >>> TAG.SHIFT) & 0x3f;
  }

  levelOf(at: number): number {
    return (this.words[at + TAG_WORD] >>> TAG.LEVEL) & 3;
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
    this.#buckets.fill(NONE);
    this.#size = 0;
  }

  /** Takes out what the scope covers; answers how many entries. */
  invalidate(scope: TlbScope): number {
    if (this.#size === 0) return 0;
    let count = 0;
    for (let at = 0; at < this.words.length; at += WORDS) {
      if ((this.words[at + TAG_WORD] & TAG_VALID) === 0 || !covers(scope, this.words, at)) continue;
      this.#unlink(at);
      this.words[at + TAG_WORD] = 0;
      count++;
    }
    this.#size -= count;
    return count;
  }
}

/** Low halves of pages that are larger than 4 GiB are 0. */
function hashOf(pageHi: number, pageLo: number, shift: number, tags: number): number {
  const page = (pageLo >>> shift) ^ pageHi ^ (pageHi >>> 7);
  return page ^ (page >>> 9) ^ Math.imul(tags, 0x9e37_79b1) ^ (tags >>> 16);
}
