import { describe, expect, it } from "vitest";
import { Report } from "../src/report.js";
import { citations, judge, run } from "../src/runners/features.js";

function report() {
  const lines: string[] = [];
  return { lines, report: new Report((line) => lines.push(line)) };
}

/** Built, so that these texts cite nothing in this file. */
const cite = (id: string) => `(${id})`;

describe("features", () => {
  const text = `
    it("answers twice ${cite("X1")} ${cite("X-2")}", () => {});
    it.each(rows)(\`$code: \${what} ${cite("X1")}\`, () => {});
    // a comment ${cite("X3")} is no name
    it("stays ${cite("6.3.9")} a section, ${cite("X-2, 5.4; X8")} is two", () => {});
  `;
  const tests = citations([{ file: "some.test.ts", text }]);

  it("finds tests by the ids in their names, and neither comments nor sections", () => {
    expect([...tests.keys()]).toEqual(["X1", "X-2", "X8"]);
    expect(tests.get("X1")).toHaveLength(2);
    expect(tests.get("X-2")).toHaveLength(2);
  });

  it("prints each item with its test, or why it has none", () => {
    const { lines, report: to } = report();
    judge({ id: "X1", title: "one", status: "covered" }, tests, to);
    judge({ id: "X-2", title: "two", status: "partial", reason: "half" }, tests, to);
    judge({ id: "X4", title: "four", status: "open" }, tests, to);
    judge({ id: "X5", title: "five", status: "out-of-scope", reason: "no such chip" }, tests, to);
    expect(to.finish()).toBe(0);
    expect(lines).toEqual([
      `X1 one: some.test.ts "answers twice ${cite("X1")} ${cite("X-2")}" and 1 more`,
      `X-2 two: some.test.ts "answers twice ${cite("X1")} ${cite("X-2")}" and 1 more (partial: half)`,
      "X4 four: no test yet",
      "X5 five: out of scope, no such chip",
      "not applicable: 1 × no test yet",
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

  it("has a test for every item of the committed list that is marked covered", async () => {
    const { lines, report: to } = report();
    await run([], to);
    expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([]);
    expect(to.passed).toBeGreaterThan(80);
  });
});
