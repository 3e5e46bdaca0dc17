import { describe, expect, it } from "vitest";
import { totals } from "./totals.mjs";

const file = (status: string, ...tests: string[]) => ({
  status,
  assertionResults: tests.map((test) => ({ status: test })),
});

describe("totals", () => {
  it("counts the tests of a clean run", () => {
    expect(totals({ numPassedTests: 3, numFailedTests: 0, testResults: [file("passed")] }, 0)).toEqual({
      passed: 3,
      failed: 0,
    });
  });

  it("counts a file that did not load as one failure beside failed tests", () => {
    const testResults = [file("failed", "failed", "passed"), file("failed")];
    expect(totals({ numPassedTests: 1, numFailedTests: 1, testResults }, 1)).toEqual({ passed: 1, failed: 2 });
  });

  it("counts a run that ended badly without a failed test as one failure", () => {
    expect(totals({ numPassedTests: 3, numFailedTests: 0, testResults: [] }, 1)).toEqual({ passed: 3, failed: 1 });
    expect(totals(undefined, null)).toEqual({ passed: 0, failed: 1 });
  });

  it("counts a run without any test as one failure", () => {
    expect(totals({ numPassedTests: 0, numFailedTests: 0, testResults: [] }, 0)).toEqual({ passed: 0, failed: 1 });
  });
});
