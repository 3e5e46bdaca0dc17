/** A campaign over the shipped drivers, in two parts that are put together. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, it, vi } from "vitest";
import { SCENARIOS } from "../../src/explore/scenarios/index.js";
import { backendsOf, type TaskResult } from "../../src/explore/task.js";
import { main } from "../../src/program.js";

const folder = mkdtempSync(join(tmpdir(), "iommukit-campaign-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

async function said(...words: readonly string[]): Promise<string> {
  const lines: string[] = [];
  vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  expect(await main(["explore", ...words])).toBe(0);
  vi.restoreAllMocks();
  return lines.join("\n");
}

it("shares its runs out over scenarios and IOMMUs, and its shards together are the whole", {
  timeout: 120_000,
}, async () => {
  const machines = SCENARIOS.reduce((count, scenario) => count + backendsOf(scenario).length, 0);
  const runs = 3 * machines;
  const files: string[] = [];
  for (const shard of ["1/2", "2/2"]) {
    const words = ["--shipped", "--runs", String(runs), "--seed", "3", "--threads", "1", "--shard", shard, "--json"];
    const text = await said(...words);
    const results = JSON.parse(text) as TaskResult[];
    expect(results).toHaveLength(machines);
    expect(results.every(({ task }) => task.variants.length === 0)).toBe(true);
    files.push(join(folder, shard.replace("/", "-")));
    writeFileSync(files.at(-1) ?? "", text);
  }
  const table = (await said("--merge", ...files)).split("\n");
  expect(table).toHaveLength(machines + 1);
  expect(table.slice(0, -1).every((row) => / {2}3 schedules, nothing found, /.test(row))).toBe(true);
  expect(table.at(-1)).toMatch(new RegExp(`^${machines} machines, ${runs} schedules, nothing found, `));
});
