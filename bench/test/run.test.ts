/** The part "run" runs, and is nowhere near its limits: a tenth of what is asked for, so that a busy machine does not matter. */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { run } from "../src/run.js";

const possible = process.platform === "linux" && spawnSync(process.env.CC ?? "gcc", ["--version"]).status === 0;
if (!possible) console.warn("no Linux or no C compiler: what a program under iommukit run costs is not measured");

describe.runIf(possible)("a program under iommukit run", () => {
  it("has its ioctls answered and its memory reached by DMA in reasonable time", { timeout: 120_000 }, async () => {
    const rows = new Map((await run()).map(({ operation, value }) => [operation, value]));
    expect(rows.get("ioctl, median")).toBeLessThan(1000);
    expect(rows.get("DMA read of 4 KiB")).toBeGreaterThan(50);
    expect(rows.get("DMA write of 4 KiB")).toBeGreaterThan(50);
  });
});
