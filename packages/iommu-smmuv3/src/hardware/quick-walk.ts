/**
 * The common walk and nothing else: stage 1 alone down to a page whose flags need no update, from the walk cache's table
 * where there is a walk cache. For whatever is not as an operating system leaves it, and for every fault, it answers
 * false, and `TableWalk` takes the walk from the start.
 */
import type { PhysicalMemory } from "@iommukit/core";
import { shiftRight } from "./address-bits.js";
import * as bits from "./descriptor-bits.js";
import type { FoundConfig } from "./found-config.js";
import { stage1Perms } from "./table-walk.js";
import { ENTRY, type TranslationCache } from "./translation-cache.js";
import { levelShift } from "./walk-config.js";

// Constants of this module fold into the walk's code; imported ones are loaded each time.
const { ADDRESS_HI, AF, AP_READ_ONLY, CONTIGUOUS_HI, DBM_HI, HIERARCHICAL_HI, TYPE_TABLE } = bits;
const { OUT_HI, OUT_LO, PERMS } = ENTRY;

export class QuickWalk {
  /** Output page, and the PERM bits of stage 1. */
  hi = 0;
  lo = 0;
  perms = 0;
  global = false;

  constructor(
    private readonly memory: PhysicalMemory,
    private readonly walks: TranslationCache,
  ) {}

  /** @param found `walkable`, and the address lies in TTB0's range @returns whether the fields have the page */
  walk(found: FoundConfig, hi: number, lo: number): boolean {
    const { memory, walks } = this;
    const { granule } = found;
    const granuleMask = -1 << granule;
    let tableHi = found.tableHi;
    let tableLo = found.tableLo;
    let shift = found.startShift;
    let indexMask = found.startMask;
    let hierarchy = 0;
    if (walks.present) {
      const cached = walks.find(found.tag, found.tags, hi, lo);
      if (cached < 0) return false;
      tableHi = walks.words[cached + OUT_HI];
      tableLo = walks.words[cached + OUT_LO];
      hierarchy = walks.words[cached + PERMS];
      shift = levelShift(granule, walks.levelOf(cached) + 1);
      indexMask = found.indexMask;
    }
    for (;;) {
      const words = memory.view(tableHi, tableLo | ((shiftRight(hi, lo, shift) & indexMask) << 3), 2);
      if (words === null) return false;
      const dLo = words[memory.viewAt];
      const dHi = words[memory.viewAt + 1];
      tableHi = dHi & ADDRESS_HI;
      tableLo = dLo & granuleMask;
      if ((dLo & TYPE_TABLE) !== TYPE_TABLE || (tableHi & found.beyondOutput) !== 0) return false;
      if (shift === granule) return this.#page(found, dHi, dLo, tableHi, tableLo, hierarchy);
      hierarchy |= dHi & HIERARCHICAL_HI;
      indexMask = found.indexMask;
      shift -= granule - 3;
    }
  }

  #page(found: FoundConfig, dHi: number, dLo: number, hi: number, lo: number, hierarchy: number): boolean {
    const context = found.walkable;
    const clean = (dLo & AP_READ_ONLY) !== 0 && (dHi & DBM_HI) !== 0;
    if (context === null || (dLo & AF) === 0 || clean || (dHi & CONTIGUOUS_HI) !== 0) return false;
    this.hi = hi;
    this.lo = lo;
    this.perms = stage1Perms(dLo, dHi, hierarchy, context);
    this.global = !context.single && (dLo & bits.NG) === 0;
    return true;
  }
}
