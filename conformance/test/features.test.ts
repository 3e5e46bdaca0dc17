import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { citations, declaredTests, passedTests } from "../src/features/tests.js";
import { Report } from "../src/report.js";
import { judge, run } from "../src/runners/features.js";

function report() {
  const lines: string[] = [];
  return { lines, report: new Report((line) => lines.push(line)) };
}

/** Built, so that these names cite nothing in this file. */
const cite = (id: string) => `(${id})`;

/** A project of one test file. */
async function declaredIn(text: string): Promise<string[]> {
  const root = mkdtempSync(join(tmpdir(), "iommukit-features-"));
  try {
    mkdirSync(join(root, "test"));
    writeFileSync(join(root, "vitest.config.mjs"), "export default {};");
    writeFileSync(join(root, "test", "some.test.ts"), text);
    writeFileSync(join(root, "test", "helper.ts"), text);
    return (await declaredTests(root)).map(({ file, name }) => `${file} ${name}`);
  } finally {
    rmSync(root, { recursive: true });
  }
}

describe("features", () => {
  it("counts tests that are run: no comments, no other strings, no skipped ones, no other files", async () => {
    const text = `
      import { describe, it } from "vitest";
      const text = "a string ${cite("X3")}";
      // it("commented out ${cite("X3")}", () => {});
      /* it("so is this ${cite("X3")}", () => {}); */
      it("answers ${cite("X1")}", () => {});
      it.each([1])(\`$code ${cite("X2")}\`, () => {});
      it.skip("not now ${cite("X3")}", () => {});
      it.todo("some day ${cite("X3")}");
      describe("block ${cite("X4")}", () => { it("stays", () => {}); });
      describe.skip("whole block ${cite("X3")}", () => { it("waits", () => {}); });
    `;
    expect(await declaredIn(text)).toEqual([
      `test/some.test.ts answers ${cite("X1")}`,
      `test/some.test.ts $code ${cite("X2")}`,
      `test/some.test.ts block ${cite("X4")} > stays`,
    ]);
  });

  it("counts what passed when there is a report of a run", () => {
    const result = (status: string) => ({ fullName: `${status} ${cite("X1")}`, status });
    const assertionResults = ["passed", "failed", "skipped", "pending", "todo"].map(result);
    const results = { testResults: [{ name: "/r/packages/a/test/b.test.ts", assertionResults }] };
    expect(passedTests(results, "/r")).toEqual([{ file: "packages/a/test/b.test.ts", name: `passed ${cite("X1")}` }]);
  });

  const tests = citations([
    { file: "some.test.ts", name: `answers twice ${cite("X1")} ${cite("X-2")}` },
    { file: "some.test.ts", name: `$code: $what ${cite("X1")}` },
    { file: "some.test.ts", name: `stays ${cite("6.3.9")} a section, ${cite("X-2, 5.4; X8")} is two` },
  ]);

  it("finds tests by the ids in their names, and no sections", () => {
    expect([...tests.keys()]).toEqual(["X1", "X-2", "X8"]);
    expect(tests.get("X1")).toHaveLength(2);
    expect(tests.get("X-2")).toHaveLength(2);
  });

  it("prints each item with its test, or why it has none", () => {
    const { lines, report: to } = report();
    judge({ id: "X1", title: "one", status: "covered" }, tests, to);
    judge({ id: "X-2", title: "two", status: "partial", reason: "half" }, tests, to);
    judge({ id: "X5", title: "five", status: "out-of-scope", reason: "no such chip" }, tests, to);
    expect(to.finish()).toBe(0);
    expect(lines).toEqual([
      `X1 one: some.test.ts "answers twice ${cite("X1")} ${cite("X-2")}" and 1 more`,
      `X-2 two: some.test.ts "answers twice ${cite("X1")} ${cite("X-2")}" and 1 more (partial: half)`,
      "X5 five: out of scope, no such chip",
      "not applicable: 1 × out of scope",
      "2 passed, 0 failed",
    ]);
  });

  it("fails for a covered item without a test, and for one that is out of scope without a reason", () => {
    const { lines, report: to } = report();
    judge({ id: "X6", title: "six", status: "covered" }, tests, to);
    judge({ id: "X7", title: "seven", status: "out-of-scope" }, tests, to);
    expect(to.finish()).toBe(1);
    expect(lines).toContain(`FAIL X6 six: marked covered, and no test cites ${cite("X6")}`);
    expect(lines).toContain("FAIL X7 seven: out of scope without a reason");
  });

  it("fails for every covered item when the run that is looked at ran nothing", async () => {
    const { report: to } = report();
    await run([{ path: "r", name: "r", document: { testResults: [] }, records: [] }], to);
    expect(to.passed).toBe(0);
    expect(to.failed).toBeGreaterThan(200);
  });

  it("has a test for every item of the committed list that is marked covered", { timeout: 60_000 }, async () => {
    const { lines, report: to } = report();
    await run([], to);
    expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([]);
    expect(to.passed).toBeGreaterThan(200);
  });
});
