/**
 * IOTLB (VT-d 6.2.4): effective translations by source-id, PASID and page. Invalidation selects by domain-id, PASID and
 * address (tables 23 and 24). Entries of requests without PASID carry RID_PASID for that. Faulted second-stage
 * translations are kept only with CAP.CM = 1.
 */
import { Pgtt } from "../spec/pasid-table.js";
import { alignHi, alignLo, meets, TagCache } from "./tag-cache.js";

/** log2 of the largest page size of the IOTLB that is not larger than the given one. */
export function pageShift(shift: number): number {
  return shift >= 30 ? 30 : shift >= 21 ? 21 : 12;
}

/** Low word of an address within a page of `shift` bits. */
export function pageMask(shift: number): number {
  return shift >= 32 ? -1 : (1 << shift) - 1;
}

function firstStage(pgtt: number): boolean {
  return pgtt === Pgtt.FIRST_STAGE || pgtt === Pgtt.NESTED;
}

export class Iotlb {
  readonly tags: TagCache;
  readonly paHi: Int32Array;
  readonly paLo: Int32Array;
  readonly shift: Uint8Array;
  readonly rights: Int32Array;
  readonly pgtt: Uint8Array;
  /** Fault reason of a cached fault; 0 otherwise. */
  readonly fault: Uint8Array;
  readonly #did: Int32Array;
  readonly #pasid: Int32Array;
  /** Whether an entry of that size was ever filled since the last global invalidation. */
  readonly #sizes = new Uint8Array(64);

  constructor(capacity: number) {
    this.tags = new TagCache(capacity);
    this.paHi = new Int32Array(this.tags.slots);
    this.paLo = new Int32Array(this.tags.slots);
    this.shift = new Uint8Array(this.tags.slots);
    this.rights = new Int32Array(this.tags.slots);
    this.pgtt = new Uint8Array(this.tags.slots);
    this.fault = new Uint8Array(this.tags.slots);
    this.#did = new Int32Array(this.tags.slots);
    this.#pasid = new Int32Array(this.tags.slots);
  }

  /** @param pasid as the request has it: NO_PASID finds entries of requests without PASID. @returns slot, or -1 */
  find(rid: number, pasid: number, hi: number, lo: number): number {
    const { tags } = this;
    const sizes = this.#sizes;
    let slot = -1;
    if (sizes[12] !== 0) slot = tags.find((rid << 8) | 12, pasid, hi, lo & (-1 << 12));
    if (slot < 0 && sizes[21] !== 0) slot = tags.find((rid << 8) | 21, pasid, hi, lo & (-1 << 21));
    if (slot < 0 && sizes[30] !== 0) slot = tags.find((rid << 8) | 30, pasid, hi, lo & (-1 << 30));
    return slot;
  }

  /** A slot for a page of `shift` bits (12, 21 or 30); the caller fills the columns. */
  fill(rid: number, pasid: number, hi: number, lo: number, shift: number, did: number, effectivePasid: number): number {
    const slot = this.tags.claim((rid << 8) | shift, pasid, hi, alignLo(lo, shift));
    this.#sizes[shift] = 1;
    this.shift[slot] = shift;
    this.#did[slot] = did;
    this.#pasid[slot] = effectivePasid;
    return slot;
  }

  invalidateAll(): number {
    this.#sizes.fill(0);
    return this.tags.clear();
  }

  invalidateDomain(did: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) if (this.#did[slot] === did) tags.drop(slot);
    return before - tags.size;
  }

  /** Second-stage and pass-through entries of the range, and every first-stage or nested one of the domain (table 23). */
  invalidateDomainPages(did: number, hi: number, lo: number, shift: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) {
      if (this.#did[slot] === did && (firstStage(this.pgtt[slot]) || this.#meets(slot, hi, lo, shift))) tags.drop(slot);
    }
    return before - tags.size;
  }

  invalidatePasid(did: number, pasid: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++)
      if (this.#did[slot] === did && this.#pasid[slot] === pasid) tags.drop(slot);
    return before - tags.size;
  }

  /** First-stage and nested entries of the range (table 24). */
  invalidatePasidPages(did: number, pasid: number, hi: number, lo: number, shift: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) {
      if (
        this.#did[slot] === did &&
        this.#pasid[slot] === pasid &&
        firstStage(this.pgtt[slot]) &&
        this.#meets(slot, hi, lo, shift)
      )
        tags.drop(slot);
    }
    return before - tags.size;
  }

  #meets(slot: number, hi: number, lo: number, shift: number): boolean {
    return meets(this.tags.c(slot), this.tags.d(slot), hi, lo, Math.max(shift, this.shift[slot]));
  }
}

/**
 * Caches for paging structures (6.2.5): for an input address and a level, the table that the entry of that level points
 * to, with the permissions so far. First stage by domain-id and PASID, second stage by domain-id.
 */
export class PagingStructureCache {
  readonly tags: TagCache;
  readonly tableHi: Int32Array;
  readonly tableLo: Int32Array;
  readonly rights: Int32Array;
  readonly #shift: Uint8Array;
  readonly #did: Int32Array;

  constructor(capacity: number) {
    this.tags = new TagCache(capacity);
    this.tableHi = new Int32Array(this.tags.slots);
    this.tableLo = new Int32Array(this.tags.slots);
    this.rights = new Int32Array(this.tags.slots);
    this.#shift = new Uint8Array(this.tags.slots);
    this.#did = new Int32Array(this.tags.slots);
  }

  /** @param pasid -1 for the second stage. @param level of the entry that is cached. @returns slot, or -1 */
  find(did: number, pasid: number, level: number, hi: number, lo: number): number {
    if (this.tags.size === 0) return -1;
    const shift = 3 + 9 * level;
    return this.tags.find((did << 4) | level, pasid, alignHi(hi, shift), alignLo(lo, shift));
  }

  fill(
    did: number,
    pasid: number,
    level: number,
    hi: number,
    lo: number,
    tableHi: number,
    tableLo: number,
    rights: number,
  ): void {
    const shift = 3 + 9 * level;
    const slot = this.tags.claim((did << 4) | level, pasid, alignHi(hi, shift), alignLo(lo, shift));
    this.tableHi[slot] = tableHi;
    this.tableLo[slot] = tableLo;
    this.rights[slot] = rights;
    this.#shift[slot] = shift;
    this.#did[slot] = did;
  }

  invalidateAll(): number {
    return this.tags.clear();
  }

  invalidateDomain(did: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) if (this.#did[slot] === did) tags.drop(slot);
    return before - tags.size;
  }

  /** @param pasid -1: every PASID */
  invalidate(did: number, pasid: number, hi: number, lo: number, shift: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) {
      const mine = this.#did[slot] === did && (pasid < 0 || tags.b(slot) === pasid);
      if (mine && meets(tags.c(slot), tags.d(slot), hi, lo, Math.max(shift, this.#shift[slot]))) tags.drop(slot);
    }
    return before - tags.size;
  }
}
