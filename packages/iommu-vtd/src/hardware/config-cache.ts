/**
 * Context cache and PASID cache (VT-d 6.2.2, 6.2.3). Entries stay as they were read until an invalidation reaches them.
 * Faulting entries are kept only with CAP.CM = 1, under domain-id 0.
 */
import { ContextRecord, TranslationEntry } from "./config-entries.js";
import { TagCache, type TagWatcher } from "./tag-cache.js";

/** Function masks: how many low bits of the function number an invalidation ignores (table 21). */
const FUNCTION_MASK = [0xffff, 0xfffb, 0xfff9, 0xfff8] as const;

/** Tagged with source-id; for invalidation in legacy mode also with domain-id. */
export class ContextCache {
  readonly tags: TagCache;
  readonly records: ContextRecord[] = [];

  constructor(capacity: number, watcher: TagWatcher) {
    this.tags = new TagCache(capacity, watcher);
  }

  /** The record of a slot that is about to be filled. */
  record(slot: number): ContextRecord {
    this.records[slot] ??= new ContextRecord();
    return this.records[slot];
  }

  invalidateAll(): number {
    return this.tags.clear();
  }

  invalidateDomain(did: number): number {
    const before = this.tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < this.tags.capacity; slot++) if (this.records[slot]?.did === did) this.tags.drop(slot);
    return before - this.tags.size;
  }

  /** @param did -1 in scalable mode, where entries have no domain */
  invalidateDevice(did: number, sid: number, functionMask: number): number {
    const before = this.tags.size;
    if (before === 0) return 0;
    const mask = FUNCTION_MASK[functionMask];
    for (let slot = 0; slot < this.tags.capacity; slot++) {
      if (((this.tags.a(slot) ^ sid) & mask) === 0 && (did < 0 || this.records[slot]?.did === did))
        this.tags.drop(slot);
    }
    return before - this.tags.size;
  }
}

/** Tagged with source-id and PASID; for invalidation with domain-id and PASID. */
export class PasidCache {
  readonly tags: TagCache;
  readonly records: TranslationEntry[] = [];

  constructor(capacity: number, watcher: TagWatcher) {
    this.tags = new TagCache(capacity, watcher);
  }

  /** The entry of a slot that is about to be filled. */
  record(slot: number): TranslationEntry {
    this.records[slot] ??= new TranslationEntry();
    return this.records[slot];
  }

  invalidateAll(): number {
    return this.tags.clear();
  }

  /** @param pasid -1: every PASID of the domain */
  invalidateDomain(did: number, pasid = -1): number {
    const before = this.tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < this.tags.capacity; slot++) {
      if (this.records[slot]?.did === did && (pasid < 0 || this.tags.b(slot) === pasid)) this.tags.drop(slot);
    }
    return before - this.tags.size;
  }
}
