/**
 * Totals of vitest's JSON report. A file that failed without a failed test (it did not load, or a hook threw) counts as
 * one failure, and so does a run that ended badly while every test passed (an unhandled rejection, no report at all), and one
 * without any test: its filter is misspelt.
 * @param {{ numPassedTests: number, numFailedTests: number, testResults: { status: string, assertionResults: { status: string }[] }[] } | undefined} report
 * @param {number | null} exitStatus
 */
export function totals(report, exitStatus) {
  const passed = report?.numPassedTests ?? 0;
  const broken = (report?.testResults ?? []).filter(
    (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
  ).length;
  const failed = (report?.numFailedTests ?? 0) + broken;
  const wrong = exitStatus !== 0 || report?.testResults.length === 0;
  return { passed, failed: failed === 0 && wrong ? 1 : failed };
}
