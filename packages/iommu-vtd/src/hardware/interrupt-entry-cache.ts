/** Interrupt entry cache (VT-d 6.4): interrupt remapping table entries by index. Entries that fault are kept only with CAP.CM = 1. */
import { TagCache } from "./tag-cache.js";

export class InterruptEntryCache {
  /** The owner's words of a slot are the entry. */
  readonly tags: TagCache;

  constructor(capacity: number) {
    this.tags = new TagCache(capacity);
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
