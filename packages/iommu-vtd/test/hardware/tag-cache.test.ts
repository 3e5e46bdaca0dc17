/** A cache's marks and sets against its slots: whatever was claimed, dropped and replaced, looking at each slot says the same. */
import { Random } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { TagCache } from "../../src/hardware/tag-cache.js";

const WAYS = 4;

type Tag = readonly [a: number, b: number, c: number, d: number];

/** Many of them fall into one set, and have a mark in common. */
function tagOf(random: Random): Tag {
  return [random.below(6) << 8, random.below(3) - 1, random.below(2), random.below(200) << 12];
}

function search(cache: TagCache, [a, b, c, d]: Tag): number {
  const slots = Array.from({ length: cache.size === 0 ? 0 : cache.capacity }, (_, slot) => slot);
  return slots.findIndex(
    (slot) => cache.a(slot) === a && cache.b(slot) === b && cache.c(slot) === c && cache.d(slot) === d,
  );
}

/** The ways of the set that the slot belongs to that are free, in order. */
function freeIn(cache: TagCache, slot: number): number[] {
  const first = slot - (slot % WAYS);
  return [0, 1, 2, 3].filter((way) => cache.size === 0 || cache.a(first + way) < 0);
}

/** Claims a tag, drops it, clears the cache, or leaves it alone. @returns 1 when a slot has got or lost a tag, or all were cleared */
function change(cache: TagCache, random: Random, tag: Tag): number {
  const had = search(cache, tag);
  const what = random.below(1000);
  if (what === 0) cache.clear();
  else if (what < 200 && had >= 0) cache.drop(had);
  else if (what < 300) return 0;
  else return cache.claim(...tag) === had ? 0 : 1;
  return 1;
}

describe("TagCache", () => {
  it.each([4, 8, 64, 512])("with %i slots finds what it holds and nothing else", (capacity) => {
    const random = new Random(capacity);
    let told = 0;
    let changes = 0;
    const cache = new TagCache(capacity, { forget: () => told++ });
    for (let step = 0; step < 3000; step++) {
      const tag = tagOf(random);
      expect(Math.max(cache.find(...tag), -1)).toBe(search(cache, tag));
      changes += change(cache, random, tag);
      expect(Math.max(cache.find(...tag), -1)).toBe(search(cache, tag));
      expect(told).toBe(changes);
    }
    const valid = Array.from({ length: capacity }, (_, slot) => slot).filter((slot) => cache.a(slot) >= 0);
    expect(valid.map((slot) => cache.find(cache.a(slot), cache.b(slot), cache.c(slot), cache.d(slot)))).toEqual(valid);
    expect([cache.size, cache.clear(), cache.size]).toEqual([valid.length, valid.length, 0]);
  });

  it("fills the first free slot of a set, and replaces in turn where there is none", () => {
    const random = new Random(1);
    const cache = new TagCache(32);
    const next = new Map<number, number>();
    let replaced = 0;
    for (let step = 0; step < 3000; step++) {
      const tag = tagOf(random);
      if (random.below(4) === 0) cache.drop(random.below(cache.capacity));
      if (search(cache, tag) >= 0) continue;
      const before = Array.from({ length: cache.capacity }, (_, slot) => freeIn(cache, slot));
      const slot = cache.claim(...tag);
      const set = Math.floor(slot / WAYS);
      const turn = next.get(set) ?? 0;
      const [free = turn] = before[slot];
      expect(slot % WAYS).toBe(free);
      if (before[slot].length > 0) continue;
      next.set(set, (turn + 1) % WAYS);
      replaced++;
    }
    expect(replaced).toBeGreaterThan(500);
  });

  it("without capacity lends one slot and finds nothing", () => {
    const cache = new TagCache(0);
    expect([cache.claim(1, 2, 3, 4), cache.size, cache.find(1, 2, 3, 4) < 0, cache.clear()]).toEqual([0, 0, true, 0]);
  });
});
