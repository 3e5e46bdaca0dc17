/** What a run lets hardware see of entries that change meanwhile. */
import { createPlatform } from "@iommukit/core";
import { fakeIommu } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { Bench, DEFAULT_CHOOSER, type Scenario } from "../src/index.js";

const ENTRY_WORDS = 16;
const BEATS = 4;

/** A driver stores into an entry, and a cache is invalidated; then a device fetches the entry. @returns questions of the fetch */
async function questions(cache: string): Promise<number> {
  let before = 0;
  const scenario: Scenario = {
    name: "store, invalidate, fetch",
    summary: "a device fetches an entry after an invalidation",
    boot: async (options) => ({ platform: await createPlatform({ ...options, iommus: [fakeIommu], devices: [] }) }),
    async prepare({ platform: { memory, trace } }) {
      const at = memory.regions[0].base + 0x8000;
      return {
        actors: {
          driver: async () => {
            memory.store64(at, 0, 1);
            trace.emit("cache:invalidated", { unit: "fake", cache, scope: "all", entries: 0 });
          },
          device: async () => {
            before = bench.scheduler.decisions.counts.length;
            memory.view(Math.floor(at / 2 ** 32), at | 0, ENTRY_WORDS);
          },
        },
      };
    },
  };
  const bench = await Bench.boot(scenario, []);
  const { counts } = await bench.run(DEFAULT_CHOOSER);
  return counts.length - before;
}

describe("an entry that is fetched after its cache has been invalidated", () => {
  it("is not as old as before that: what was on its way does not come into the cache any more", async () => {
    expect(await questions("pasid")).toBe(0);
    expect(await questions("config")).toBe(0);
  });

  it("may be, when another cache was", async () => {
    expect(await questions("iotlb")).toBeGreaterThan(0);
    expect(await questions("iotlb")).toBeLessThanOrEqual(BEATS);
  });
});
