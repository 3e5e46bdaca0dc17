/**
 * The common IOTLB miss and nothing else: the first stage alone, for a user's read or write, through tables in one window of
 * memory, down to a 4 KiB page in whose entries no bit is missing; from the paging-structure cache where there is one. For
 * whatever is different, and for every fault, it answers no, and `TranslationLookup` takes the request from the start.
 */
import { NO_PASID, recentSlot, type Translation, WINDOW_MASK, WindowReader } from "@iommukit/core";
import { FIRST_STAGE_ENTRY as FS } from "../spec/page-table.js";
import { Pgtt } from "../spec/pasid-table.js";
import type { ConfigLookup } from "./config-lookup.js";
import * as table from "./first-stage-rights.js";
import type { FoundConfig } from "./found-config.js";
import { ALLOWED_SHIFT } from "./rights.js";
import { NOT_EXECUTE_DISABLED, type TableWalk } from "./table-walk.js";
import { IOTLB_DID, type Iotlb, IotlbWord, kindOf, type PagingStructureCache } from "./translation-cache.js";

// Constants of this module fold into the walk's code; imported ones are loaded each time.
const { PAGE_RIGHTS } = table;
const ALLOWED = ALLOWED_SHIFT;
const PRESENT = FS.P.lowMask | FS.A.lowMask;
const PS = FS.PS.lowMask;
const XD = FS.XD.lowMask;
const NOT_XD = NOT_EXECUTE_DISABLED;
const ADDR_HI = FS.ADDR.highMask;
const RW_SHIFT = FS.RW.shift;
/** From D to its index bit. */
const D_SHIFT = FS.D.shift - table.PAGE_BITS + 1;
const D_INDEX = 1 << (table.PAGE_BITS - 1);
const PERMS = 7;
const NONE = NO_PASID;
const PAGE_SHIFT = 12;
const PAGE = -1 << PAGE_SHIFT;
/** The same in words, and the bits of an entry's offset in its table. */
const PAGE_WORDS = PAGE >>> 2;
const OFFSET = 511 << 1;
const INDEX_MASK = WINDOW_MASK;
const { PA_HI, PA_LO, RIGHTS, KIND } = IotlbWord;
const IOTLB = 1;
const PAGING_STRUCTURES = 2;
const FIRST_STAGE_PAGE = kindOf(PAGE_SHIFT, Pgtt.FIRST_STAGE, 0, 0);
const DID_SHIFT = IOTLB_DID;

export class QuickWalk extends WindowReader {
  readonly #found: readonly FoundConfig[];
  readonly #cache: PagingStructureCache;
  /** Which caches there are. */
  readonly #caches: number = 0;
  readonly #reservedHi: number;

  constructor(
    private readonly config: ConfigLookup,
    private readonly iotlb: Iotlb,
    walk: TableWalk,
  ) {
    super();
    this.#found = config.found.slots;
    this.#cache = walk.firstStageCache;
    this.#caches = (iotlb.tags.capacity > 0 ? IOTLB : 0) | (this.#cache.tags.capacity > 0 ? PAGING_STRUCTURES : 0);
    this.#reservedHi = walk.reservedHi;
  }

  /**
   * @param missed what the IOTLB's `find` has just answered
   * @returns 1 when `out` has the answer: there is a page, and it permits the access; otherwise 0
   */
  translate(
    missed: number,
    rid: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: Translation,
  ): number {
    if (pasid === NONE) return 0;
    const found = this.#found[recentSlot(rid, pasid)];
    const known = found.sid === rid && found.pasid === pasid;
    if (!known || (found.uncached !== 0 && found.kept.changed() !== 0)) this.config.renew(rid, pasid, found);
    if ((found.uncommon | (hi >>> 15)) !== 0) return 0;
    this.enter(found.window);
    const { words } = this;
    const first = this.windowFirst;
    const caches = this.#caches;
    let at: number;
    // What all entries on the way have, what one of them has, and what makes the walk an uncommon one.
    let every: number;
    let any: number;
    let odd: number;
    if ((caches & PAGING_STRUCTURES) === 0) {
      const near = found.region === ((hi << 2) | (lo >>> 30)) && found.changed(words) === 0;
      if (!near && found.climb(hi, lo) === 0) return 0;
      at = found.table | ((lo >>> 20) & OFFSET);
      every = words[at];
      any = words[at + 1];
      odd = (every & PS) | ((any ^ this.windowHi) & ADDR_HI);
      at = ((every >>> 2) & PAGE_WORDS) + (((lo >>> 11) & OFFSET) - first);
      every &= found.everyLow;
      any |= found.anyHigh;
    } else {
      const slot = this.#cache.find(found.did, pasid, 2, hi, lo);
      if (slot < 0) return 0;
      at = ((this.#cache.tableLo(slot) >>> 2) & PAGE_WORDS) + (((lo >>> 11) & OFFSET) - first);
      every = this.#cache.rights(slot);
      any = (every & NOT_XD) === 0 ? XD : 0;
      every |= PRESENT;
      odd = this.#cache.tableHi(slot) ^ this.windowHi;
    }
    at &= INDEX_MASK;
    if (at >= this.windowEnd) return 0;
    const low = words[at];
    const high = words[at + 1];
    every &= low;
    any |= high;
    if ((odd | (~every & PRESENT) | (any & this.#reservedHi)) !== 0) return 0;
    const page = ((every >>> RW_SHIFT) & 3) | ((any >>> 31) << 2) | ((low >>> D_SHIFT) & D_INDEX);
    if (page !== found.rightsIndex) {
      // Most pages are alike.
      found.rightsIndex = page;
      found.rights = PAGE_RIGHTS[found.rightsAt | page];
    }
    const { rights } = found;
    const paHi = high & ADDR_HI;
    if ((access & ~(rights >>> ALLOWED)) !== 0 || (paHi === 0 && low >>> 20 === 0xfee)) return 0;
    out.hi = paHi;
    out.lo = (low & PAGE) | (lo & ~PAGE);
    out.shift = PAGE_SHIFT;
    out.perms = rights & PERMS;
    if ((caches & IOTLB) !== 0) this.#keep(missed, rid, pasid, hi, lo, found.did, paHi, low & PAGE, rights);
    return 1;
  }

  #keep(
    missed: number,
    rid: number,
    pasid: number,
    hi: number,
    lo: number,
    did: number,
    paHi: number,
    paLo: number,
    rights: number,
  ): void {
    const at = this.iotlb.fillPage(missed, rid, pasid, hi, lo);
    const { words } = this.iotlb.tags;
    words[at | PA_HI] = paHi;
    words[at | PA_LO] = paLo;
    words[at | RIGHTS] = rights;
    words[at | KIND] = FIRST_STAGE_PAGE | (did << DID_SHIFT);
  }
}
