/**
 * The common walk and nothing else: stage 1 alone through 4 KiB tables that lie in one window of memory, down to a page
 * whose flags need no update; from the walk cache's table where there is a walk cache. For whatever is not as an
 * operating system leaves it, and for every fault, it answers no, and `TableWalk` takes the walk from the start.
 */
import { type Translation, WINDOW_MASK } from "@iommukit/core";
import * as bits from "./descriptor-bits.js";
import type { FoundConfig } from "./found-config.js";
import { ENTRY, type TranslationCache } from "./translation-cache.js";

// Constants of this module fold into the walk's code; imported ones are loaded each time.
const { ADDRESS_HI, AP_READ_ONLY, AP_SHIFT, CONTIGUOUS_HI, DBM_HI, HIERARCHICAL_HI_SHIFT, PXN_HI_SHIFT } = bits;
const { TYPE_TABLE } = bits;
const { IPA_HI, IPA_LO, OUT_HI, OUT_LO, PERMS } = ENTRY;
const ACCESSED_PAGE = TYPE_TABLE | bits.AF;
const PAGE_SHIFT = 12;
const PAGE = -1 << PAGE_SHIFT;
/** The same in words, and the bits of a descriptor's offset in its table. */
const PAGE_WORDS = PAGE >>> 2;
const OFFSET = 511 << 1;
const INDEX_MASK = WINDOW_MASK;

/** Index in the window of the descriptor at that offset in the table that `dLo` points to. */
function entryAt(dLo: number, offset: number, first: number): number {
  return (((dLo >>> 2) & PAGE_WORDS) + ((offset & OFFSET) - first)) & INDEX_MASK;
}

export class QuickWalk {
  /** 1 where there is a TLB, 1 where there is a walk cache. */
  readonly #tlbs: number = 0;
  readonly #caches: number = 0;

  constructor(
    private readonly tlb: TranslationCache,
    private readonly walks: TranslationCache,
  ) {
    this.#tlbs = Math.min(tlb.entries, 1);
    this.#caches = Math.min(walks.entries, 1);
  }

  /**
   * @param found its address lies in TTB0's range, and `find` has not found it in the TLB
   * @returns 1 when `out` has been filled, otherwise 0
   */
  translate(found: FoundConfig, hi: number, lo: number, need: number, out: Translation): number {
    // Global entries have not been looked for: where there are any, the whole TLB has to be asked first.
    if (found.walkable === 0 || this.tlb.globals !== 0) return 0;
    const { window, windowFirst, windowHi } = found;
    const end = found.windowEnd;
    let { levels } = found;
    let dHi = found.tableHi;
    let dLo = found.tableLo;
    if (this.#caches !== 0) {
      const { words } = this.walks;
      const cached = this.walks.find(found.tag, found.tags, hi, lo);
      // Tables that are read on the way belong into the cache: the whole walk puts them there.
      if (cached < 0 || this.walks.levelOf(cached) !== 2) return 0;
      dHi = words[cached + OUT_HI] | words[cached + PERMS];
      dLo = words[cached + OUT_LO] | TYPE_TABLE;
      levels = 1;
    }
    // The first of the levels; then one by one. What the descriptors have in common is looked at when all have been read.
    const root = levels > 3 ? hi >>> 6 : levels > 2 ? (hi << 3) | (lo >>> 29) : lo >>> 11;
    let at = entryAt(dLo, root, windowFirst);
    if (at >= end) return 0;
    let all = dLo;
    let common = dHi;
    let hierarchy = dHi;
    dLo = window[at];
    dHi = window[at + 1];
    if (levels > 3) {
      at = entryAt(dLo, (hi << 3) | (lo >>> 29), windowFirst);
      if (at >= end) return 0;
      all &= dLo;
      common &= dHi;
      hierarchy |= dHi;
      dLo = window[at];
      dHi = window[at + 1];
    }
    if (levels > 1) {
      at = entryAt(dLo, lo >>> 20, windowFirst);
      if (at >= end) return 0;
      all &= dLo;
      common &= dHi;
      hierarchy |= dHi;
      dLo = window[at];
      dHi = window[at + 1];
      at = entryAt(dLo, lo >>> 11, windowFirst);
      if (at >= end) return 0;
      all &= dLo;
      common &= dHi;
      hierarchy |= dHi;
      dLo = window[at];
      dHi = window[at + 1];
    }
    const elsewhere = ((common ^ windowHi) | (hierarchy ^ windowHi)) & ADDRESS_HI;
    const clean = (dLo & AP_READ_ONLY) !== 0 && (dHi & DBM_HI) !== 0;
    const odd = (~all & TYPE_TABLE) | elsewhere | (~dLo & ACCESSED_PAGE) | (dHi & (CONTIGUOUS_HI | found.beyondOutput));
    const execute = (dHi >>> PXN_HI_SHIFT) & 3;
    const inherited = (hierarchy >>> HIERARCHICAL_HI_SHIFT) & 15;
    const perms = found.perms[((dLo >>> AP_SHIFT) & 3) | (execute << 2) | (inherited << 4)];
    if (clean || odd !== 0 || (need & ~perms) !== 0) return 0;
    if (this.#tlbs !== 0 && this.#keep(found, hi, lo, dHi, dLo, perms) === 0) return 0;
    out.hi = dHi & ADDRESS_HI;
    out.lo = (dLo & PAGE) | (lo & ~PAGE);
    out.shift = PAGE_SHIFT;
    out.perms = (perms >>> found.privilege) & 7;
    return 1;
  }

  /** @returns 0 for a global page, which is not for `insertPage` */
  #keep(found: FoundConfig, hi: number, lo: number, dHi: number, dLo: number, perms: number): number {
    if ((~dLo & found.globalUnless) !== 0) return 0;
    const at = this.tlb.insertPage(found.pageTag, found.tags, hi, lo);
    const { words } = this.tlb;
    words[at + OUT_LO] = words[at + IPA_LO] = dLo & PAGE;
    words[at + OUT_HI] = words[at + IPA_HI] = dHi & ADDRESS_HI;
    words[at + PERMS] = perms;
    return 1;
  }
}
