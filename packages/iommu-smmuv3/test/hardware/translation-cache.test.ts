/** The TLB's hash table against its entries: whatever was inserted, replaced and invalidated, both say the same. */
import { Random } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { ENTRY, TLB_KIND } from "../../src/hardware/tlb-entry.js";
import { TranslationCache } from "../../src/hardware/translation-cache.js";

const WORLD = 0;
const VMID = 3;
const SHIFTS = [12, 16, 21, 30, 39];
const ANY = -1;

/** Low and high word of the n-th block of 2^shift bytes. */
function block(n: number, shift: number): readonly [hi: number, lo: number] {
  const address = BigInt(n) << BigInt(shift);
  return [Number(address >> 32n) | 0, Number(BigInt.asIntN(32, address))];
}

/** The entry that translates an address, by looking at each of them; smaller pages first. */
function search(cache: TranslationCache, asid: number, hi: number, lo: number): number {
  const { words } = cache;
  const address = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
  const found = [...cache.contents()].filter((at) => {
    const start = (BigInt(words[at + ENTRY.VA_HI] >>> 0) << 32n) | BigInt(words[at + ENTRY.VA_LO] >>> 0);
    const shift = BigInt(cache.shiftOf(at));
    return (words[at + ENTRY.ASID_VMID] & 0xffff) === asid && start >> shift === address >> shift;
  });
  return found.sort((a, b) => cache.shiftOf(a) - cache.shiftOf(b)).at(0) ?? -1;
}

function scopeOf(asid: number, hi: number, lo: number) {
  return {
    kind: TLB_KIND.VA,
    world: WORLD,
    asid,
    vmid: VMID,
    vmidMask: 0xffff,
    globals: true,
    sharedOnly: false,
    ranged: true,
    firstHi: hi,
    firstLo: lo,
    lastHi: hi,
    lastLo: lo | 0xfff,
    leaf: false,
    granule: 0,
    level: 0,
  };
}

/** Inserts a page, or takes one out, or all. @returns ASID and address of what it was about */
function change(cache: TranslationCache, random: Random): readonly [asid: number, hi: number, lo: number] {
  const shift = SHIFTS[random.below(SHIFTS.length)];
  const asid = random.below(3);
  const [hi, lo] = block(random.below(1 << Math.min(12, 48 - shift)), shift);
  const what = random.below(1000);
  if (what === 0) cache.clear();
  else if (what < 200) cache.invalidate(scopeOf(asid, hi, lo));
  else cache.insert(TLB_KIND.VA, WORLD, asid, 0, VMID, false, hi, lo, shift, 3, 12, shift);
  return [asid, hi, lo];
}

describe("the TLB", () => {
  it.each([
    { sets: 1, ways: 1 },
    { sets: 1, ways: 16 },
    { sets: 4, ways: 3 },
    { sets: 64, ways: 8 },
  ])("with $sets sets of $ways ways finds what it holds and nothing else", (geometry) => {
    const random = new Random(geometry.sets * 100 + geometry.ways);
    const cache = new TranslationCache(geometry);
    for (let step = 0; step < 4000; step++) {
      const [asid, hi, lo] = change(cache, random);
      expect(cache.lookup(TLB_KIND.VA, WORLD, asid, 0, VMID, hi, lo)).toBe(search(cache, asid, hi, lo));
      for (let probe = 0; probe < 4; probe++) {
        const wanted = SHIFTS[random.below(SHIFTS.length)];
        const [probeHi, probeLo] = block(random.below(1 << Math.min(12, 48 - wanted)), wanted);
        const answer = cache.lookup(TLB_KIND.VA, WORLD, asid, 0, VMID, probeHi, probeLo);
        expect(answer).toBe(search(cache, asid, probeHi, probeLo));
      }
      for (const at of step % 200 === 0 ? cache.contents() : []) {
        const { words } = cache;
        const owner = words[at + ENTRY.ASID_VMID] & 0xffff;
        const [vaHi, vaLo] = [words[at + ENTRY.VA_HI], words[at + ENTRY.VA_LO]];
        expect(cache.lookup(TLB_KIND.VA, WORLD, owner, 0, VMID, vaHi, vaLo)).toBe(search(cache, owner, vaHi, vaLo));
      }
    }
    const left = [...cache.contents()].length;
    expect(cache.invalidate({ ...scopeOf(ANY, 0, 0), ranged: false })).toBe(left);
    expect([...cache.contents()]).toEqual([]);
  });
});
