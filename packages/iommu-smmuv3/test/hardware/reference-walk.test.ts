import { describe, expect, it } from "vitest";
import { Comparison } from "./reference-machine.js";

const STREAMS = 80;

describe("any configuration of both stages, beside a second implementation without caches", () => {
  it.each([1, 2, 3, 4, 5, 6])("answers, records and sets flags alike: seed %i", (seed) => {
    const comparison = new Comparison(seed);
    for (let asid = 1; asid <= STREAMS; asid++)
      for (const { actual, expected } of comparison.stream(asid)) expect(actual).toMatchObject(expected);
    expect(comparison.granted).toBeGreaterThan(20);
    expect(comparison.different()).toEqual([]);
  });

  it.each([7, 8, 9, 10])("forgets what the fewest invalidations name, tables above included (4.4): seed %i", (seed) => {
    const comparison = new Comparison(seed, true);
    for (let asid = 1; asid <= STREAMS; asid++)
      for (const { actual, expected } of comparison.stream(asid)) expect(actual).toMatchObject(expected);
    expect(comparison.altered).toBeGreaterThan(20);
    expect(comparison.different()).toEqual([]);
  });
});
