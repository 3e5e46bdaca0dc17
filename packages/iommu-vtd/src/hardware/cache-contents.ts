/** What the caches of the unit hold, entry by entry, for reports. */
import { type CachedEntry, fieldsSet, hex, join64 } from "@iommukit/core";
import { PASID_ENTRY } from "../spec/pasid-table.js";
import { CONTEXT_ENTRY, SM_CONTEXT_ENTRY } from "../spec/root-context.js";
import type { ConfigLookup } from "./config-lookup.js";
import { ownOf, type TagCache } from "./tag-cache.js";
import { faultOf, type Iotlb, IotlbWord, type PagingStructureCache, shiftOf } from "./translation-cache.js";

export interface Caches {
  readonly config: ConfigLookup;
  readonly iotlb: Iotlb;
  readonly firstStage: PagingStructureCache;
  readonly secondStage: PagingStructureCache;
}

export function cacheContents({ config, iotlb, firstStage, secondStage }: Caches): CachedEntry[] {
  return [
    ...contexts(config),
    ...pasids(config),
    ...translations(iotlb),
    ...tables("first-stage structures", firstStage),
    ...tables("second-stage structures", secondStage),
  ];
}

function* valid(tags: TagCache): Generator<number> {
  if (tags.size > 0) for (let slot = 0; slot < tags.capacity; slot++) if (tags.a(slot) >= 0) yield slot;
}

const answer = (fault: number, says: string) => (fault === 0 ? says : `fault ${hex(fault)}`);
const pasidOf = (pasid: number) => (pasid < 0 ? "" : ` PASID ${pasid}`);

/** In legacy mode what a context entry says is a translation, whose words are a PASID table entry's. */
function* contexts({ contexts: { tags, records }, scalable }: ConfigLookup): Generator<CachedEntry> {
  for (const slot of valid(tags)) {
    const { word0, word1, word2, fault, translation } = records[slot];
    const says = scalable
      ? fieldsSet(SM_CONTEXT_ENTRY.fields, Int32Array.of(word0, word1, word2, 0, 0, 0, 0, 0))
      : `${CONTEXT_ENTRY.DID.name}=${hex(translation.did)} ${CONTEXT_ENTRY.SSPTPTR.name}=${hex(join64(translation.ssHi, translation.ssLo))}`;
    yield { cache: "context", tag: `source-id ${hex(tags.a(slot))}`, says: answer(fault, says) };
  }
}

function* pasids({ pasids: { tags, records } }: ConfigLookup): Generator<CachedEntry> {
  for (const slot of valid(tags)) {
    const { word0, word1, word2, word4, word5, fault } = records[slot];
    const words = new Int32Array(PASID_ENTRY.words);
    words.set([word0, word1, word2, 0, word4, word5]);
    const tag = `source-id ${hex(tags.a(slot))}${pasidOf(tags.b(slot))}`;
    yield { cache: "pasid", tag, says: answer(fault, fieldsSet(PASID_ENTRY.fields, words)) };
  }
}

function* translations({ tags }: Iotlb): Generator<CachedEntry> {
  for (const slot of valid(tags)) {
    const own = ownOf(slot);
    const kind = tags.words[own + IotlbWord.KIND];
    const pa = join64(tags.words[own + IotlbWord.PA_HI], tags.words[own + IotlbWord.PA_LO]);
    const page = `${2 ** (shiftOf(kind) - 10)} KiB at ${hex(join64(tags.c(slot), tags.d(slot)))}`;
    const tag = `source-id ${hex(tags.a(slot) >>> 8)}${pasidOf(tags.b(slot))}, ${page}`;
    yield { cache: "iotlb", tag, says: answer(faultOf(kind), `→ ${hex(pa)}`) };
  }
}

function* tables(cache: string, structures: PagingStructureCache): Generator<CachedEntry> {
  const { tags } = structures;
  for (const slot of valid(tags)) {
    const tag = `domain ${tags.a(slot) >> 4}${pasidOf(tags.b(slot))} level ${tags.a(slot) & 0xf}, ${hex(join64(tags.c(slot), tags.d(slot)))}`;
    const table = join64(structures.tableHi(slot), structures.tableLo(slot));
    yield { cache, tag, says: `→ table at ${hex(table)}` };
  }
}
