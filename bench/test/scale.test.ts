import { describe, expect, it } from "vitest";
import { mappings } from "../src/scale.js";
import { translationCost } from "../src/scale-chips.js";

describe("cost against size, as ratios of CPU time", () => {
  it("of MAP and UNMAP is about the same beside 10 and beside 20,000 mappings", {
    retry: 2,
    timeout: 60_000,
  }, async () => {
    const rows = (await mappings(20_000)).filter(({ operation }) => operation.endsWith("in order"));
    const [few, many] = [rows[0], rows[rows.length - 1]];
    expect([few.size, many.size]).toEqual([10, 20_000]);
    expect(many.nanoseconds / few.nanoseconds).toBeLessThan(2.5);
  });

  it.each(["smmuv3", "vtd"] as const)(
    "of a translation by the %s is about the same with 8 and with 65,536 devices",
    { retry: 2, timeout: 60_000 },
    (arch) => {
      const cost = (devices: number) => translationCost(arch, { devices, pasids: 1, active: 8 }, 400_000);
      cost(8);
      expect(cost(65_536) / cost(8)).toBeLessThan(2.5);
    },
  );
});
