/**
 * The common case and nothing else: a plain read or write below TTB0 whose configuration was found lately and whose TLB
 * entry permits it. Every other transaction, and every one while the trace is on, takes the way through `Translator`.
 */
import { Access, type Translation } from "@iommukit/core";
import type { ConfigLookup } from "./config-lookup.js";
import { ENTRY, PERM, type TranslationCache } from "./translation-cache.js";

const PLAIN = Access.READ | Access.WRITE;
const ALL = PERM.ALL;
const { OUT_HI, OUT_LO, PERMS } = ENTRY;

export class TlbHit {
  constructor(
    private readonly config: ConfigLookup,
    private readonly tlb: TranslationCache,
  ) {}

  /** @returns whether `out` has been filled */
  translate(sid: number, ssid: number, hi: number, lo: number, access: number, out: Translation): boolean {
    if ((access & ~PLAIN) !== 0) return false;
    const found = this.config.recent(sid, ssid);
    if (found === null || found.quick === 0 || (hi & found.beyond) !== 0) return false;
    const { tlb } = this;
    const at = tlb.find(found.tag, found.tags, hi, lo);
    if (at < 0) return false;
    const { words } = tlb;
    const perms = words[at + PERMS];
    const allowed = perms & (perms >>> found.second) & ALL;
    if (((found.needs >>> (access << 3)) & ALL & ~allowed) !== 0) return false;
    const shift = tlb.shiftOf(at);
    out.hi = words[at + OUT_HI] | (shift > 32 ? hi & ~(-1 << (shift - 32)) : 0);
    out.lo = words[at + OUT_LO] | (shift < 32 ? lo & ~(-1 << shift) : lo);
    out.shift = shift;
    out.perms = (allowed >>> found.privilege) & 7;
    return true;
  }
}
