/** Each published figure beside what the models give for it. */
import { describe, expect, it } from "vitest";
import { CALIBRATIONS } from "../../src/calibrate/calibrations.js";
import { agrees, type Finding } from "../../src/calibrate/finding.js";
import { nestedWalkReads } from "../../src/calibrate/hypersio.js";
import { calibrationJson, calibrationText, passes } from "../../src/calibrate/render.js";

async function findings(name: string): Promise<readonly Finding[]> {
  const calibration = CALIBRATIONS.find((each) => each.name === name);
  if (!calibration) throw new Error(`no calibration ${name}`);
  return calibration.run();
}

const models = (all: readonly Finding[]) => all.map(({ model }) => model);

describe("calibrations", { timeout: 60_000 }, () => {
  it.each(CALIBRATIONS)("$name: every figure agrees, and says how it came about", async ({ name }) => {
    for (const finding of await findings(name)) {
      expect(finding).toSatisfy(agrees);
      expect(finding.how).toMatch(/^(counted|computed)/);
    }
  });

  it("fast-and-safe: the chip reads 1.76 and 4.36 entries a page; 79.6 and 35.5 Gb/s", async () => {
    const [misses5, reads5, rate5, misses40, reads40, rate40] = models(await findings("fast-and-safe"));
    expect([misses5, reads5, misses40, reads40]).toEqual([1.3, 1.76, 2.2, 4.36]);
    expect([rate5.toFixed(1), rate40.toFixed(1)]).toEqual(["79.6", "35.5"]);
  });

  it("hypersio: a nested walk of two 4-level stages reads 24 entries: 2,100 ns", async () => {
    expect(nestedWalkReads()).toBe(24);
    expect(models(await findings("hypersio"))).toEqual([24, 2100]);
  });

  it("qualcomm: 8,192 commands by address become 16 by ASID", async () => {
    expect(models(await findings("qualcomm"))).toEqual([8192, 16, 0]);
  });

  it("iova-stress: 32,832 MiB of tables for 16 TiB", async () => {
    const whole = (await findings("iova-stress")).filter(({ unit }) => unit === "MiB");
    expect(models(whole).map(Math.floor)).toEqual([32_832, 32_832]);
  });

  it("strict-lazy: strict is slower behind both, and no number is claimed", async () => {
    for (const { model, tolerance } of await findings("strict-lazy")) {
      expect(tolerance).toBe("trend");
      expect(model).toBeLessThan(1);
    }
  });
});

describe("a figure that is off", () => {
  const finding: Finding = { what: "x", unit: "ns", published: 100, model: 103, tolerance: 0.02, how: "counted" };
  const outcome = { calibration: CALIBRATIONS[0], findings: [finding] };

  it("is seen, in text and in JSON", () => {
    expect(agrees(finding)).toBe(false);
    expect(agrees({ ...finding, model: 102 })).toBe(true);
    expect(passes(outcome)).toBe(false);
    expect(calibrationText([outcome])).toContain("OFF   x: published 100 ns, model 103 ns (within 2%)");
    expect(JSON.parse(calibrationJson([outcome]))).toMatchObject([{ findings: [{ agrees: false }] }]);
  });

  it("as a trend is one on the other side of 1", () => {
    expect(agrees({ ...finding, published: 0.17, model: 0.7, tolerance: "trend" })).toBe(true);
    expect(agrees({ ...finding, published: 0.17, model: 1.1, tolerance: "trend" })).toBe(false);
  });
});
