/** Interrupt entry cache (VT-d 6.4): interrupt remapping table entries by index. Entries that fault are kept only with CAP.CM = 1. */
import { IRTE } from "../spec/interrupt-remapping.js";
import { TagCache } from "./tag-cache.js";

export class InterruptEntryCache {
  readonly tags: TagCache;
  /** Words of the entry in a slot start at `slot * IRTE.words`. */
  readonly words: Int32Array;

  constructor(capacity: number) {
    this.tags = new TagCache(capacity);
    this.words = new Int32Array(this.tags.slots * IRTE.words);
  }

  invalidateAll(): number {
    return this.tags.clear();
  }

  /** Indexes that equal `index` but for its lowest `mask` bits (table 25). */
  invalidateIndex(index: number, mask: number): number {
    const before = this.tags.size;
    for (let slot = 0; slot < this.tags.capacity; slot++) {
      if ((this.tags.a(slot) ^ index) >>> mask === 0) this.tags.drop(slot);
    }
    return before - this.tags.size;
  }
}
