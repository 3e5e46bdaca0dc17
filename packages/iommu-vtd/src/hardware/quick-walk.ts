/**
 * The common walk and nothing else: the first stage alone, for a user's read or write, through tables in one window of
 * memory, down to a 4 KiB page in whose entries no bit is missing; from the paging-structure cache where there is one. For
 * whatever is different, and for every fault, it answers no, and `TableWalk` takes the walk from the start.
 */
import { type PhysicalMemory, type Translation, WINDOW_MASK } from "@iommukit/core";
import { FIRST_STAGE_ENTRY as FS } from "../spec/page-table.js";
import { PASID_ENTRY, Pgtt } from "../spec/pasid-table.js";
import { TranslationEntry } from "./config-entries.js";
import { Right } from "./rights.js";
import {
  enables,
  FIRST_STAGE_ALL,
  firstStageRights,
  NOT_EXECUTE_DISABLED,
  type TableWalk,
  withEntry,
} from "./table-walk.js";
import type { PagingStructureCache } from "./translation-cache.js";

// Constants of this module fold into the walk's code; imported ones are loaded each time.
const PRESENT = FS.P.lowMask | FS.A.lowMask;
const D = FS.D.lowMask;
const PS = FS.PS.lowMask;
const XD = FS.XD.lowMask;
const NOT_XD = NOT_EXECUTE_DISABLED;
const ADDR_LO = FS.ADDR.lowMask;
const ADDR_HI = FS.ADDR.highMask;
const RW_SHIFT = FS.RW.shift;
const PGTT = PASID_ENTRY.PGTT.lowMask;
const FIRST_STAGE = Pgtt.FIRST_STAGE << PASID_ENTRY.PGTT.shift;
const PGSNP = PASID_ENTRY.PGSNP.lowMask;
/** What the whole way has to do for the entry: another number of levels, extended accessed bits. */
const UNCOMMON = PASID_ENTRY.FSPM.lowMask | PASID_ENTRY.EAFE.lowMask;
/** Bits of the PASID table entry's word 4 that decide on rights. */
const ENABLES = PASID_ENTRY.EAFE.lowMask - 1;
const NOT_DIRTY = ~Right.DIRTY;
const { SNOOP } = Right;
const WRITE = 2;
const PERMS = 7;
const PAGE_SHIFT = 12;
const INDEX_MASK = WINDOW_MASK;
/** Bits of an entry's offset in its table. */
const OFFSET = 511 << 3;

/** Rights of a page by the enables of the PASID table entry and what its entries have in common: R/W, U/S, and XD in any. */
const RIGHTS = new Int32Array((ENABLES + 1) << 3);
for (const entry = new TranslationEntry(); entry.word4 <= ENABLES; entry.word4++) {
  for (let common = 0; common < 8; common++) {
    const rights = withEntry(entry, FIRST_STAGE_ALL, common << RW_SHIFT, (common >> 2) << 31);
    RIGHTS[(entry.word4 << 3) | common] = firstStageRights(entry, rights) | enables(entry);
  }
}

/** Index in the window of the entry at that offset in the table that `low` points to. */
function entryAt(low: number, offset: number, first: number): number {
  return ((((low & ADDR_LO) | (offset & OFFSET)) >>> 2) - first) & INDEX_MASK;
}

export class QuickWalk {
  /** Right bits of the page found last. */
  rights = 0;
  readonly #cache: PagingStructureCache;
  /** 0: there is no paging-structure cache. */
  readonly #cached: number = 0;
  readonly #reservedHi: number;
  /** The window that was used last. */
  #words: Int32Array = new Int32Array(0);
  #windowHi = 0;
  #first = 0;
  #end = 0;

  constructor(
    walk: TableWalk,
    private readonly memory: PhysicalMemory,
  ) {
    this.#cache = walk.firstStageCache;
    this.#cached = this.#cache.tags.capacity;
    this.#reservedHi = walk.reservedHi;
  }

  /** @returns 1 when `out` has the answer: there is a page, and it permits the access; otherwise 0 */
  page(entry: TranslationEntry, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const { word4, word5 } = entry;
    if ((((entry.word0 & PGTT) ^ FIRST_STAGE) | (word4 & UNCOMMON) | (hi >>> 15)) !== 0) return 0;
    if (this.#cached !== 0) return this.#fromCache(entry, pasid, hi, lo, access, out);
    if (this.#reaches(word5, word4) === 0) return 0;
    const words = this.#words;
    const first = this.#first;
    const end = this.#end;
    let at = entryAt(word4, hi >>> 4, first);
    let low = words[at];
    let high = words[at + 1];
    let every = low;
    let any = high;
    // Bits that make the walk an uncommon one.
    let odd = (low & PS) | ((high & ADDR_HI) ^ word5);
    at = entryAt(low, (hi << 5) | (lo >>> 27), first);
    if (at >= end) return 0;
    low = words[at];
    high = words[at + 1];
    every &= low;
    any |= high;
    odd |= (low & PS) | ((high & ADDR_HI) ^ word5);
    at = entryAt(low, lo >>> 18, first);
    if (at >= end) return 0;
    low = words[at];
    high = words[at + 1];
    every &= low;
    any |= high;
    odd |= (low & PS) | ((high & ADDR_HI) ^ word5);
    at = entryAt(low, lo >>> 9, first);
    if (at >= end) return 0;
    low = words[at];
    high = words[at + 1];
    odd |= (~(every & low) & PRESENT) | ((any | high) & this.#reservedHi);
    if (odd !== 0) return 0;
    return this.#leaf(entry, every & low, any | high, low, high, lo, access, out);
  }

  /** Only the last table is read; its rights so far come from the cache. */
  #fromCache(entry: TranslationEntry, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const cache = this.#cache;
    const slot = cache.find(entry.did, pasid, 2, hi, lo);
    if (slot < 0) return 0;
    const tableLo = cache.tableLo(slot);
    if (this.#reaches(cache.tableHi(slot), tableLo) === 0) return 0;
    const at = entryAt(tableLo, lo >>> 9, this.#first);
    const low = this.#words[at];
    const high = this.#words[at + 1];
    if (((~low & PRESENT) | (high & this.#reservedHi)) !== 0) return 0;
    const before = cache.rights(slot);
    return this.#leaf(entry, before & low, high | ((before & NOT_XD) === 0 ? XD : 0), low, high, lo, access, out);
  }

  #leaf(
    entry: TranslationEntry,
    every: number,
    any: number,
    low: number,
    high: number,
    lo: number,
    access: number,
    out: Translation,
  ): number {
    const common = ((every >>> RW_SHIFT) & 3) | ((any >>> 31) << 2);
    let rights = RIGHTS[((entry.word4 & ENABLES) << 3) | common];
    const paHi = high & ADDR_HI;
    if ((low & D) === 0) {
      if ((access & WRITE) !== 0) return 0;
      rights &= NOT_DIRTY;
    }
    if ((entry.word2 & PGSNP) !== 0) rights |= SNOOP;
    if ((access & ~rights) !== 0 || (paHi === 0 && low >>> 20 === 0xfee)) return 0;
    this.rights = rights;
    out.hi = paHi;
    out.lo = (low & ADDR_LO) | (lo & ~ADDR_LO);
    out.shift = PAGE_SHIFT;
    out.perms = rights & PERMS;
    out.stag = 0;
    return 1;
  }

  /** @returns 1 when the table lies in the window, after a move of the window if need be; 0 without windows, or outside of memory */
  #reaches(hi: number, lo: number): number {
    if (hi === this.#windowHi && entryAt(lo, 0, this.#first) < this.#end) return 1;
    const window = this.memory.window?.(hi, lo & ADDR_LO) ?? null;
    if (window === null) return 0;
    this.#words = window.words;
    this.#windowHi = window.hi;
    this.#first = window.first;
    this.#end = window.words.length;
    return 1;
  }
}
