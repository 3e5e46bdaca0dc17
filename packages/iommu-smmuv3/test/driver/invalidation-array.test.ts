import { describe, expect, it } from "vitest";
import { InvalidationArray, type InvalidationItem, InvalidationType } from "../../src/driver/invalidation-array.js";

const asid = (id: number): InvalidationItem => ({ type: InvalidationType.S1_ASID, id, ssid: 0 });
const ats = (id: number, ssid: number): InvalidationItem => ({ type: InvalidationType.ATS, id, ssid });

describe("InvalidationArray (arm_smmu_invs)", () => {
  it("keeps IOTLB tags before ATCs and counts who shares an item", () => {
    const array = new InvalidationArray();
    array.merge([asid(7), ats(3, 1)]);
    array.merge([asid(7), ats(2, 1)]);
    expect(array.items.map(({ id, users }) => [id, users])).toEqual([
      [7, 2],
      [2, 1],
      [3, 1],
    ]);
  });

  it("tells ATC entries of one device apart by substream, tags not", () => {
    const array = new InvalidationArray();
    array.merge([asid(1), { ...asid(1), ssid: 5 }, ats(3, 1), ats(3, 2)]);
    expect(array.items).toHaveLength(3);
  });

  it("leaves trash between live items until a purge, and says which items nobody uses", () => {
    const array = new InvalidationArray();
    array.merge([asid(7), ats(3, 1), ats(4, 1)]);
    expect(array.unref([ats(3, 1)])).toEqual([ats(3, 1)]);
    expect([array.items.length, array.trashes]).toEqual([3, 1]);
    array.purge();
    expect([array.items.length, array.trashes]).toEqual([2, 0]);
    array.unref([ats(4, 1)]);
    expect(array.items).toHaveLength(1);
  });

  it("throws for a reference that was never taken", () => {
    expect(() => new InvalidationArray().unref([asid(1)])).toThrow("not in the array");
  });
});
