/**
 * The common case and nothing else: a plain read or write below TTB0 whose configuration was found lately and which a TLB
 * entry of less than 4 GiB or the common walk permits. Every other transaction, and every one while somebody watches the steps, takes the way
 * through `Translator`, from the start.
 */
import { recentSlot, type Translation } from "@iommukit/core";
import { ANY_ACCESS, type ChipContext } from "./chip-context.js";
import type { ConfigLookup } from "./config-lookup.js";
import type { FoundConfig } from "./found-config.js";
import type { QuickWalk } from "./quick-walk.js";
import { ENTRY, TAG } from "./tlb-entry.js";
import type { TranslationCache } from "./translation-cache.js";

// Constants of this module fold into the code below; imported ones are loaded each time.
const ANY = ANY_ACCESS;
const { OUT_HI, OUT_LO, PERMS } = ENTRY;
const TAG_WORD = ENTRY.TAG;
const { SHIFT } = TAG;

export class QuickPath {
  readonly #found: readonly FoundConfig[];

  constructor(
    private readonly chip: ChipContext,
    config: ConfigLookup,
    private readonly tlb: TranslationCache,
    private readonly walker: QuickWalk,
  ) {
    this.#found = config.found.slots;
  }

  /** @returns 1 when `out` has been filled, otherwise 0 */
  translate(sid: number, ssid: number, hi: number, lo: number, access: number, out: Translation): number {
    const { tlb } = this;
    const found = this.#found[recentSlot(sid, ssid)];
    if (found.sid !== sid || found.quickSsid !== ssid) return 0;
    if ((((access | ANY) & this.chip.refused) | (hi & found.beyond)) !== 0) return 0;
    if (found.uncached !== 0 && found.kept.changed() !== 0) return 0;
    const need = found.needs[access];
    const at = tlb.entries === 0 ? -1 : tlb.find(found.tag, found.tags, hi, lo);
    if (at < 0) return this.walker.translate(found, hi, lo, need, out);
    const { words } = tlb;
    const perms = words[at + PERMS];
    const allowed = perms & (perms >>> found.second);
    const shift = words[at + TAG_WORD] >>> SHIFT;
    if (((need & ~allowed) | (shift >>> 5)) !== 0) return 0;
    out.hi = words[at + OUT_HI];
    out.lo = words[at + OUT_LO] | (lo & ~(-1 << shift));
    out.shift = shift;
    out.perms = (allowed >>> found.privilege) & 7;
    return 1;
  }
}
