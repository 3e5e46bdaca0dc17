/**
 * The common walk and nothing else: stage 1 alone through 4 KiB tables that lie in one window of memory, down to a page
 * whose flags need no update; from the walk cache's table where there is a walk cache. For whatever is not as an
 * operating system leaves it, and for every fault, it answers no, and `TableWalk` takes the walk from the start.
 */
import { type Translation, WINDOW_MASK, WindowReader } from "@iommukit/core";
import * as bits from "./descriptor-bits.js";
import type { FoundConfig } from "./found-config.js";
import { ENTRY } from "./tlb-entry.js";
import type { TranslationCache } from "./translation-cache.js";

// Constants of this module fold into the walk's code; imported ones are loaded each time.
const { ADDRESS_HI, AP_READ_ONLY, AP_SHIFT, CONTIGUOUS_HI, DBM_HI, HIERARCHICAL_HI_SHIFT, PXN_HI_SHIFT } = bits;
const { TYPE_TABLE } = bits;
const { IPA_HI, IPA_LO, ORIGIN, OUT_HI, OUT_LO, PERMS } = ENTRY;
const ACCESSED_PAGE = TYPE_TABLE | bits.AF;
const PAGE_SHIFT = 12;
const PAGE = -1 << PAGE_SHIFT;
/** The same in words, and the bits of a descriptor's offset in its table. */
const PAGE_WORDS = PAGE >>> 2;
const OFFSET = 511 << 1;
const INDEX_MASK = WINDOW_MASK;

export class QuickWalk extends WindowReader {
  /** 1 where there is a TLB, 1 where there is a walk cache. */
  readonly #tlbs: number = 0;
  readonly #caches: number = 0;

  constructor(
    private readonly tlb: TranslationCache,
    private readonly walks: TranslationCache,
  ) {
    super();
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
    this.enter(found.window);
    const { words } = this;
    const first = this.windowFirst;
    let at: number;
    // The last table descriptor, and what one of all of them has in its high word.
    let dLo: number;
    let hierarchy: number;
    let elsewhere: number;
    if (this.#caches === 0) {
      const near = found.region === ((hi << 2) | (lo >>> 30)) && found.changed(words) === 0;
      if (!near && found.climb(hi, lo) === 0) return 0;
      at = found.table | ((lo >>> 20) & OFFSET);
      dLo = words[at];
      hierarchy = words[at + 1];
      elsewhere = (hierarchy ^ this.windowHi) & ADDRESS_HI;
      hierarchy |= found.anyHigh;
    } else {
      const { words: cachedWords } = this.walks;
      const cached = this.walks.find(found.tag, found.tags, hi, lo);
      // Tables that are read on the way belong into the cache: the whole walk puts them there.
      if (cached < 0 || this.walks.levelOf(cached) !== 2) return 0;
      dLo = cachedWords[cached + OUT_LO] | TYPE_TABLE;
      hierarchy = cachedWords[cached + OUT_HI] | cachedWords[cached + PERMS];
      elsewhere = (hierarchy ^ this.windowHi) & ADDRESS_HI;
    }
    const type = ~dLo & TYPE_TABLE;
    at = (((dLo >>> 2) & PAGE_WORDS) + (((lo >>> 11) & OFFSET) - first)) & INDEX_MASK;
    if (at >= this.windowEnd) return 0;
    dLo = words[at];
    const dHi = words[at + 1];
    const clean = (dLo & AP_READ_ONLY) !== 0 && (dHi & DBM_HI) !== 0;
    const odd = type | elsewhere | (~dLo & ACCESSED_PAGE) | (dHi & (CONTIGUOUS_HI | found.beyondOutput));
    const execute = (dHi >>> PXN_HI_SHIFT) & 3;
    const inherited = (hierarchy >>> HIERARCHICAL_HI_SHIFT) & 15;
    const index = ((dLo >>> AP_SHIFT) & 3) | (execute << 2) | (inherited << 4);
    if (index !== found.permsIndex) {
      // Most pages are alike.
      found.permsIndex = index;
      found.perms = found.permsOf[index];
    }
    const { perms } = found;
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
    const at = this.tlb.insertPage(found.tag, found.tags, hi, lo);
    const { words } = this.tlb;
    words[at + OUT_LO] = words[at + IPA_LO] = dLo & PAGE;
    words[at + OUT_HI] = words[at + IPA_HI] = dHi & ADDRESS_HI;
    words[at + PERMS] = perms;
    words[at + ORIGIN] = found.pageOrigin;
    return 1;
  }
}
