/**
 * The common case and nothing else: a plain read or write below TTB0 whose configuration was found lately and which a TLB
 * entry or the common walk permits. Every other transaction, and every one while the trace is on, takes the way through
 * `Translator`, from the start.
 */
import { Access, type Translation } from "@iommukit/core";
import type { ConfigLookup } from "./config-lookup.js";
import type { FoundConfig } from "./found-config.js";
import type { QuickWalk } from "./quick-walk.js";
import { ENTRY, PERM, TLB_KIND, type TranslationCache } from "./translation-cache.js";

// Constants of this module fold into the code below; imported ones are loaded each time.
const PLAIN = Access.READ | Access.WRITE;
const { ALL } = PERM;
const { OUT_HI, OUT_LO, PERMS, IPA_HI, IPA_LO } = ENTRY;
const { VA } = TLB_KIND;

export class QuickPath {
  constructor(
    private readonly config: ConfigLookup,
    private readonly tlb: TranslationCache,
    private readonly walker: QuickWalk,
  ) {}

  /** @returns whether `out` has been filled */
  translate(sid: number, ssid: number, hi: number, lo: number, access: number, out: Translation): boolean {
    if ((access & ~PLAIN) !== 0) return false;
    const found = this.config.recent(sid, ssid);
    if (found === null || !found.quick || (hi & found.beyond) !== 0) return false;
    const { tlb } = this;
    const need = (found.needs >>> (access << 3)) & ALL;
    const at = tlb.find(found.tag, found.tags, hi, lo);
    if (at < 0) return found.walkable !== null && this.#walk(found, hi, lo, need, out);
    const { words } = tlb;
    const perms = words[at + PERMS];
    const allowed = perms & (perms >>> found.second) & ALL;
    if ((need & ~allowed) !== 0) return false;
    const shift = tlb.shiftOf(at);
    out.hi = words[at + OUT_HI] | (shift > 32 ? hi & ~(-1 << (shift - 32)) : 0);
    out.lo = words[at + OUT_LO] | (shift < 32 ? lo & ~(-1 << shift) : lo);
    out.shift = shift;
    out.perms = (allowed >>> found.privilege) & 7;
    return true;
  }

  #walk(found: FoundConfig, hi: number, lo: number, need: number, out: Translation): boolean {
    const { tlb, walker } = this;
    // Global entries are not looked for here: where there are any, the whole TLB has to be asked first.
    if (tlb.globals || !walker.walk(found, hi, lo) || (need & ~walker.perms) !== 0) return false;
    const { granule } = found;
    if (tlb.present) this.#keep(found, hi, lo);
    out.hi = walker.hi;
    out.lo = walker.lo | (lo & ~(-1 << granule));
    out.shift = granule;
    out.perms = (walker.perms >>> found.privilege) & 7;
    return true;
  }

  #keep({ stream, asid, aset, granule }: FoundConfig, hi: number, lo: number): void {
    const { tlb, walker } = this;
    const { words } = tlb;
    const { world, vmid } = stream;
    const at = tlb.insert(VA, world, asid, aset, vmid, walker.global, hi, lo, granule, 3, granule, granule);
    words[at + OUT_LO] = walker.lo;
    words[at + OUT_HI] = walker.hi;
    words[at + PERMS] = walker.perms;
    words[at + IPA_LO] = walker.lo;
    words[at + IPA_HI] = walker.hi;
  }
}
