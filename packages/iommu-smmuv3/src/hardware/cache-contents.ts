/** What the caches of the SMMU hold, entry by entry, for reports. */
import { type CachedEntry, hex, join64 } from "@iommukit/core";
import { STE } from "../spec/stream-table.js";
import type { ConfigLookup } from "./config-lookup.js";
import { ENTRY, TLB_KIND } from "./tlb-entry.js";
import type { TranslationCache } from "./translation-cache.js";

export function cacheContents(config: ConfigLookup, tlb: TranslationCache, walks: TranslationCache): CachedEntry[] {
  return [...streams(config), ...contexts(config), ...translations("TLB", tlb), ...translations("walk", walks)];
}

function* streams({ cached }: ConfigLookup): Generator<CachedEntry> {
  for (const { sid, entry } of cached.streams.contents()) {
    const { valid, config, contextHi, contextLo, vmid } = entry;
    const says = valid
      ? `Config=${STE.Config.nameOf(config) ?? config} S1ContextPtr=${hex(join64(contextHi, contextLo))} S2VMID=${vmid}`
      : "not valid";
    yield { cache: "STE", tag: `StreamID ${hex(sid)}`, says };
  }
}

function* contexts({ cached }: ConfigLookup): Generator<CachedEntry> {
  for (const { sid, ssid, entry } of cached.contexts.contents()) {
    const { valid, asid, tt0 } = entry;
    const says = valid
      ? `ASID=${hex(asid)} ${tt0.disabled ? "EPD0=1" : `TTB0=${hex(join64(tt0.tableHi, tt0.tableLo))}`}`
      : "not valid";
    yield { cache: "CD", tag: `StreamID ${hex(sid)} SubstreamID ${ssid}`, says };
  }
}

function* translations(cache: string, tlb: TranslationCache): Generator<CachedEntry> {
  const { words } = tlb;
  for (const at of tlb.contents()) {
    const tags = words[at + ENTRY.ASID_VMID];
    const space = `ASID ${hex(tags & 0xffff)} VMID ${hex(tags >>> 16)}`;
    const page = `${2 ** (tlb.shiftOf(at) - 10)} KiB at ${hex(join64(words[at + ENTRY.VA_HI], words[at + ENTRY.VA_LO]))}`;
    const kind = tlb.kindOf(at) === TLB_KIND.IPA ? "IPA" : "VA";
    const out = hex(join64(words[at + ENTRY.OUT_HI], words[at + ENTRY.OUT_LO]));
    yield { cache, tag: `${space}, ${kind} ${page}`, says: `→ ${out}` };
  }
}
