/**
 * IOTLB (VT-d 6.2.4): effective translations by source-id, PASID and page. Invalidation selects by domain-id, PASID and
 * address (tables 23 and 24). Entries of requests without PASID carry RID_PASID for that. Faulted second-stage
 * translations are kept only with CAP.CM = 1.
 */
import { NO_PASID } from "@iommukit/core";
import { Pgtt } from "../spec/pasid-table.js";
import { alignHi, alignLo, meets } from "./address-bits.js";
import { ownOf, TagCache } from "./tag-cache.js";

/** log2 of the largest page size of the IOTLB that is not larger than the given one. */
export function pageShift(shift: number): number {
  return shift >= 30 ? 30 : shift >= 21 ? 21 : 12;
}

/** Low word of an address within a page of `shift` bits. */
export function pageMask(shift: number): number {
  return shift >= 32 ? -1 : (1 << shift) - 1;
}

/** What an IOTLB entry says, in the words of its slot that are the owner's. */
export const IotlbWord = {
  PA_HI: 0,
  PA_LO: 1,
  /** `withAllowed`; of a cached fault Right bits alone. */
  RIGHTS: 2,
  /** log2 of the page in 4:0, PGTT in 7:5, the fault reason of a cached fault in 15:8 (0 otherwise), domain-id in 31:16. */
  KIND: 3,
} as const;

export function kindOf(shift: number, pgtt: number, fault: number, did: number): number {
  return shift | (pgtt << 5) | (fault << 8) | (did << IOTLB_DID);
}

/** The bits of KIND that are the page's; where the domain-id begins. */
export const IOTLB_SHIFT = 0x1f;
export const IOTLB_DID = 16;

export function shiftOf(kind: number): number {
  return kind & IOTLB_SHIFT;
}

export function pgttOf(kind: number): number {
  return (kind >>> 5) & 7;
}

export function faultOf(kind: number): number {
  return (kind >>> 8) & 0xff;
}

function didOf(kind: number): number {
  return kind >>> IOTLB_DID;
}

const PAGE = -1 << 12;
const LARGE_2M = 1;
const LARGE_1G = 2;

/** `private`, not `#`, as in TagCache. */
export class Iotlb {
  readonly tags: TagCache;
  /** PASID that entries of requests without one are invalidated by. */
  private ridPasid = new Int32Array(0);
  /** Sizes above 4 KiB that were filled since the last global invalidation: LARGE bits. */
  private large = 0;

  constructor(capacity: number) {
    this.tags = new TagCache(capacity);
  }

  /**
   * @param pasid as the request has it: NO_PASID finds entries of requests without PASID
   * @returns slot; negative, and what `fillPage` wants to know, when there is none
   */
  find(rid: number, pasid: number, hi: number, lo: number): number {
    const slot = this.tags.find((rid << 8) | 12, pasid, hi, lo & PAGE);
    return slot < 0 && this.large !== 0 ? this.findLarge(slot, rid, pasid, hi, lo) : slot;
  }

  private findLarge(missed: number, rid: number, pasid: number, hi: number, lo: number): number {
    const { tags } = this;
    let slot = (this.large & LARGE_2M) !== 0 ? tags.find((rid << 8) | 21, pasid, hi, lo & (-1 << 21)) : missed;
    if (slot < 0 && (this.large & LARGE_1G) !== 0) slot = tags.find((rid << 8) | 30, pasid, hi, lo & (-1 << 30));
    return slot < 0 ? missed : slot;
  }

  /** A slot for a page of `shift` bits (12, 21 or 30). @returns where its words are: IotlbWord; the caller fills them */
  fill(rid: number, pasid: number, hi: number, lo: number, shift: number, effectivePasid: number): number {
    const { tags } = this;
    const slot = tags.claim((rid << 8) | shift, pasid, hi, alignLo(lo, shift));
    if (shift === 21) this.large |= LARGE_2M;
    else if (shift === 30) this.large |= LARGE_1G;
    if (this.ridPasid.length === 0) this.ridPasid = new Int32Array(tags.slots);
    this.ridPasid[slot] = effectivePasid;
    return ownOf(slot);
  }

  /** The same for a 4 KiB page of a request with PASID. @param missed what `find` has just answered */
  fillPage(missed: number, rid: number, pasid: number, hi: number, lo: number): number {
    return ownOf(this.tags.place(~missed, (rid << 8) | 12, pasid, hi, lo & PAGE));
  }

  invalidateAll(): number {
    this.large = 0;
    return this.tags.clear();
  }

  invalidateDomain(did: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) if (this.did(slot) === did) tags.drop(slot);
    return before - tags.size;
  }

  /** Second-stage and pass-through entries of the range, and every first-stage or nested one of the domain (table 23). */
  invalidateDomainPages(did: number, hi: number, lo: number, shift: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) {
      if (this.did(slot) === did && (this.firstStage(slot) || this.meets(slot, hi, lo, shift))) tags.drop(slot);
    }
    return before - tags.size;
  }

  invalidatePasid(did: number, pasid: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++)
      if (this.did(slot) === did && this.pasid(slot) === pasid) tags.drop(slot);
    return before - tags.size;
  }

  /** First-stage and nested entries of the range (table 24). */
  invalidatePasidPages(did: number, pasid: number, hi: number, lo: number, shift: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) {
      if (
        this.did(slot) === did &&
        this.pasid(slot) === pasid &&
        this.firstStage(slot) &&
        this.meets(slot, hi, lo, shift)
      )
        tags.drop(slot);
    }
    return before - tags.size;
  }

  private kind(slot: number): number {
    return this.tags.words[ownOf(slot) + IotlbWord.KIND];
  }

  private did(slot: number): number {
    return didOf(this.kind(slot));
  }

  private pasid(slot: number): number {
    const pasid = this.tags.b(slot);
    return pasid === NO_PASID ? this.ridPasid[slot] : pasid;
  }

  private firstStage(slot: number): boolean {
    const pgtt = pgttOf(this.kind(slot));
    return pgtt === Pgtt.FIRST_STAGE || pgtt === Pgtt.NESTED;
  }

  private meets(slot: number, hi: number, lo: number, shift: number): boolean {
    return meets(this.tags.c(slot), this.tags.d(slot), hi, lo, Math.max(shift, shiftOf(this.kind(slot))));
  }
}

/**
 * Caches for paging structures (6.2.5): for an input address and a level, the table that the entry of that level points
 * to, with the permissions so far. First stage by domain-id and PASID, second stage by domain-id.
 */
export class PagingStructureCache {
  readonly tags: TagCache;

  constructor(capacity: number) {
    this.tags = new TagCache(capacity);
  }

  tableHi(slot: number): number {
    return this.tags.words[ownOf(slot)];
  }

  tableLo(slot: number): number {
    return this.tags.words[ownOf(slot) + 1];
  }

  rights(slot: number): number {
    return this.tags.words[ownOf(slot) + 2];
  }

  /** The first tag holds domain-id and level. */
  #did(slot: number): number {
    return this.tags.a(slot) >> 4;
  }

  #shift(slot: number): number {
    return 3 + 9 * (this.tags.a(slot) & 0xf);
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
    const at = ownOf(slot);
    this.tags.words[at] = tableHi;
    this.tags.words[at + 1] = tableLo;
    this.tags.words[at + 2] = rights;
  }

  invalidateAll(): number {
    return this.tags.clear();
  }

  invalidateDomain(did: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) if (this.#did(slot) === did) tags.drop(slot);
    return before - tags.size;
  }

  /** @param pasid -1: every PASID */
  invalidate(did: number, pasid: number, hi: number, lo: number, shift: number): number {
    const { tags } = this;
    const before = tags.size;
    if (before === 0) return 0;
    for (let slot = 0; slot < tags.capacity; slot++) {
      const mine = this.#did(slot) === did && (pasid < 0 || tags.b(slot) === pasid);
      if (mine && meets(tags.c(slot), tags.d(slot), hi, lo, Math.max(shift, this.#shift(slot)))) tags.drop(slot);
    }
    return before - tags.size;
  }
}
