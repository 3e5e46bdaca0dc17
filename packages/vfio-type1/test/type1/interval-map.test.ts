import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { IntervalMap } from "../../src/type1/interval-map.js";

describe("IntervalMap", () => {
  it("finds what a search through all intervals finds, whatever is inserted and removed", () => {
    const starts = fc.uniqueArray(fc.nat(50_000), { minLength: 800, maxLength: 1500 });
    const question = fc.tuple(fc.nat(500_000), fc.nat(40));
    fc.assert(
      fc.property(starts, fc.infiniteStream(fc.nat()), fc.array(question, { minLength: 50 }), (all, choices, asked) => {
        const map = new IntervalMap<readonly [number, number]>();
        const kept: (readonly [number, number])[] = [];
        for (const start of all) {
          const choice = choices.next().value;
          const interval = [10 * start, 10 * start + (choice % 10)] as const;
          map.insert(...interval, interval);
          kept.push(interval);
          // One in three goes again.
          if (choice % 3 === 0) map.remove(kept.splice(choice % kept.length, 1)[0][0]);
        }
        kept.sort(([a], [b]) => a - b);
        expect([...map]).toEqual(kept);
        for (const [first, length] of asked) {
          const overlaps = ([from, to]: readonly [number, number]) => from <= first + length && to >= first;
          expect(map.find(first, first + length)).toBe(kept.find(overlaps));
        }
        // Just behind one interval the next is the lowest, wherever its chunk begins.
        for (const [i, next] of kept.entries()) expect(map.find(i === 0 ? 0 : kept[i - 1][1] + 1, next[0])).toBe(next);
        for (const [first] of kept) map.remove(first);
        expect([...map]).toEqual([]);
        expect(map.find(0, 1_000_000)).toBeUndefined();
      }),
      { numRuns: 20, seed: 7 },
    );
  });

  it("inserts and removes at the front of a million as quickly as at the front of a thousand", () => {
    const time = (size: number) => {
      const map = new IntervalMap<number>();
      for (let i = 1; i <= size; i++) map.insert(i, i, i);
      const before = process.cpuUsage();
      for (let i = 0; i < 20_000; i++) {
        map.insert(0, 0, 0);
        map.remove(0);
      }
      const { user, system } = process.cpuUsage(before);
      return user + system;
    };
    time(1000);
    expect(time(1_000_000)).toBeLessThan(5 * time(1000));
  });
});
