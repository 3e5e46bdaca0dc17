import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SortedChunks } from "../../src/type1/sorted-chunks.js";

describe("SortedChunks", () => {
  it("holds what a sorted array holds, whatever is inserted and removed", () => {
    const numbers = fc.uniqueArray(fc.nat(100_000), { minLength: 1500, maxLength: 3000 });
    fc.assert(
      fc.property(numbers, fc.infiniteStream(fc.nat()), fc.nat(100_000), (all, choices, from) => {
        const chunks = new SortedChunks<number>((a, b) => a < b);
        const kept: number[] = [];
        for (const number of all) {
          chunks.insert(number);
          kept.push(number);
          // One in three goes again.
          const choice = choices.next().value;
          if (choice % 3 === 0) chunks.remove(kept.splice(choice % kept.length, 1)[0]);
        }
        kept.sort((a, b) => a - b);
        expect([...chunks]).toEqual(kept);
        const above = kept.filter((number) => number >= from);
        expect([...chunks.from((number) => number >= from)]).toEqual(above);
        expect(chunks.first((number) => number >= from)).toBe(above[0]);
        for (const number of kept) chunks.remove(number);
        expect([...chunks]).toEqual([]);
      }),
      { numRuns: 20, seed: 7 },
    );
  });

  it("inserts and removes at the front of a million as quickly as at the front of a thousand", () => {
    const time = (size: number) => {
      const chunks = new SortedChunks<number>((a, b) => a < b);
      for (let i = 1; i <= size; i++) chunks.insert(i);
      const before = process.cpuUsage();
      for (let i = 0; i < 20_000; i++) {
        chunks.insert(0);
        chunks.remove(0);
      }
      const { user, system } = process.cpuUsage(before);
      return user + system;
    };
    time(1000);
    expect(time(1_000_000)).toBeLessThan(5 * time(1000));
  });
});
