import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadFile } from "../src/load.js";
import { Report } from "../src/report.js";
import { run as pageTable } from "../src/runners/page-table.js";
import { run as ste } from "../src/runners/ste.js";
import type { Runner } from "../src/suites.js";

const vectors = join(import.meta.dirname, "../vectors/peers");

async function answers(run: Runner["run"], name: string): Promise<string> {
  const lines: string[] = [];
  const report = new Report((line) => lines.push(line));
  await run([loadFile(join(vectors, name))], report);
  return [...lines, report.lastLine].join("\n");
}

describe("what Linux's own code answered", () => {
  it("is what the driver's page tables answer, memory word for word", async () => {
    expect(await answers(pageTable, "pgtable_cases.json.gz")).toBe("139 passed, 0 failed");
  });

  it("is what the driver's STE and CD updates do, value by value", async () => {
    expect(await answers(ste, "ste_transitions.json.gz")).toBe("537 passed, 0 failed");
  });
});
