/** The recorder itself, compiled and run on the modelled machines. CI does this with every transcript. */
import { spawnSync } from "node:child_process";
import type { TranscriptHeader } from "@iommukit/cli/machines";
import { describe, expect, it } from "vitest";
import { loadFile } from "../src/load.js";
import { Report } from "../src/report.js";
import { differenceAllowed } from "../src/run/differences.js";
import { run } from "../src/runners/run.js";
import type { TranscriptStep } from "../src/vfio/transcript.js";

const VECTORS = new URL("../vectors/vfio/", import.meta.url).pathname;
const possible = process.platform === "linux" && spawnSync(process.env.CC ?? "cc", ["--version"]).status === 0;
if (!possible) console.warn("no Linux or no C compiler: the recorder is not run");

describe.runIf(possible)("the recorder under iommukit run", () => {
  it.each([
    ["6.12.117-amd64-noiommu.jsonl.gz", 857, 0],
    ["6.12.117-amd64-intel-cm39-faults.jsonl.gz", 231, 2],
    ["6.12.117-arm64-smmuv3-faults.jsonl.gz", 220, 12],
  ])("writes the lines of %s again", { timeout: 60_000 }, async (name, same, listed) => {
    const lines: string[] = [];
    const report = new Report((line) => lines.push(line));
    await run([loadFile(`${VECTORS}${name}`)], report);
    const failures = lines.filter((line) => line.startsWith("FAIL"));
    report.finish();
    expect(failures).toEqual([]);
    const excused = lines.map((line) => Number(/^not applicable: (\d+) ×/.exec(line)?.[1] ?? 0));
    expect([report.passed, excused.reduce((sum, count) => sum + count, 0)]).toEqual([same, listed]);
  });
});

describe("a difference", () => {
  const { records } = loadFile(`${VECTORS}6.12.117-amd64-intel-cm39-faults.jsonl.gz`);
  const header = records[0] as TranscriptHeader;
  const fault = (records as TranscriptStep[]).find(({ faults }) => Array.isArray(faults) && faults.length > 0);

  it("of a fault's line is none of the listed where the recorder paused", () => {
    if (!fault) throw new Error("the transcript has no fault");
    expect(differenceAllowed(header, fault, { ...fault, faults: [] })).toBeUndefined();
  });

  it("of a fault's line is the rate limit's elsewhere, and one of its answer never", () => {
    if (!fault) throw new Error("the transcript has no fault");
    const hurried = { ...header, config: "intel-cm39" };
    expect(differenceAllowed(hurried, fault, { ...fault, faults: [] })).toMatch(/rate limit/);
    expect(differenceAllowed(hurried, fault, { ...fault, faults: [], ret: 1 })).toBeUndefined();
  });
});
