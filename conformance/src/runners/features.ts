/**
 * What the product does, item by item, and the test that shows it. The list is `vectors/features/features.json`; a test covers
 * an item when its name, or that of a block around it, cites the item's id in parentheses: "answers EEXIST the second time (A2)".
 * An item that is marked covered and has no test fails. Takes no files, or other lists in place of the committed one, or
 * the JSON report of a test run (`npm test -- --outputFile.json=FILE`): only tests that passed in it count then.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { citations, declaredTests, isTestResults, passedTests, type TestName } from "../features/tests.js";
import { type LoadedFile, loadFile } from "../load.js";
import type { Report } from "../report.js";

/** partial and out-of-scope say why. */
type Status = "covered" | "partial" | "out-of-scope";

interface Feature {
  readonly id: string;
  readonly title: string;
  readonly status: Status;
  readonly reason?: string;
}

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const LIST = join(ROOT, "conformance/vectors/features/features.json");

/** `conformance features` alone is enough. */
export const withoutFiles = true;

export const holds = "features, nor the report of a test run";

export function recognises({ document, records }: LoadedFile): boolean {
  return isTestResults(document) || (records as Partial<Feature>[]).some((one) => one?.id && one.title && one.status);
}

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  const results = files.map(({ document }) => document).filter(isTestResults);
  const found = results.length > 0 ? results.flatMap((each) => passedTests(each, ROOT)) : await declaredTests(ROOT);
  const tests = citations(found);
  const lists = files.filter(({ document }) => !isTestResults(document));
  const features = (lists.length > 0 ? lists : [loadFile(LIST)]).flatMap(({ records }) => records as Feature[]);
  for (const feature of features) judge(feature, tests, report);
}

/** One line for the item; one pass or failure, unless nothing is asked of it. */
export function judge(
  { id, title, status, reason }: Feature,
  tests: ReadonlyMap<string, readonly TestName[]>,
  report: Report,
): void {
  const found = tests.get(id) ?? [];
  const label = `${id} ${title}`;
  if (status === "out-of-scope") {
    report.note(`${label}: out of scope, ${reason ?? "without a reason"}`);
    if (reason) report.notApplicable("out of scope");
    else report.fail(`${label}: out of scope without a reason`);
  } else if (found.length > 0) {
    const [{ file, name }] = found;
    const more = found.length > 1 ? ` and ${found.length - 1} more` : "";
    report.note(`${label}: ${file} "${name}"${more}${reason ? ` (partial: ${reason})` : ""}`);
    report.pass();
  } else {
    report.fail(`${label}: marked ${status}, and no test cites (${id})`);
  }
}
