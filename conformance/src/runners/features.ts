/**
 * What the product does, item by item, and the test that shows it. The list is `vectors/features/features.json`; a test covers
 * an item when its name cites the item's id in parentheses: "answers EEXIST the second time (A2)". An item that is marked
 * covered and has no test fails. Takes no files, or other lists in place of the committed one.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type LoadedFile, loadFile } from "../load.js";
import type { Report } from "../report.js";

/** open: no test is asked for yet. partial and out-of-scope say why. */
type Status = "covered" | "partial" | "open" | "out-of-scope";

interface Feature {
  readonly id: string;
  readonly title: string;
  readonly status: Status;
  readonly reason?: string;
}

interface TestName {
  readonly file: string;
  readonly name: string;
}

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const LIST = join(ROOT, "conformance/vectors/features/features.json");

/** `conformance features` alone is enough. */
export const withoutFiles = true;

export async function run(files: LoadedFile[], report: Report): Promise<void> {
  const tests = citations(testFiles());
  const lists = files.length > 0 ? files : [loadFile(LIST)];
  for (const feature of lists.flatMap(({ records }) => records as Feature[])) judge(feature, tests, report);
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
  } else if (status === "open") {
    report.note(`${label}: no test yet`);
    report.notApplicable("no test yet");
  } else {
    report.fail(`${label}: marked ${status}, and no test cites (${id})`);
  }
}

/** Names of tests by the ids that they cite: "(A9)", "(C9, L-9)", "(5.4, G16)". */
export function citations(files: Iterable<{ readonly file: string; readonly text: string }>): Map<string, TestName[]> {
  const byId = new Map<string, TestName[]>();
  for (const { file, text } of files) {
    for (const [, , name] of text.matchAll(/(["`])((?:\\.|(?!\1)[^\\\n])*)\1/g)) {
      for (const [, inside] of name.matchAll(/\(([^()]*)\)/g)) {
        for (const [id] of inside.matchAll(/(?<![\w.-])[A-Z]-?\d+(?![\w.-])/g)) {
          const named = byId.get(id) ?? [];
          byId.set(id, named);
          if (!named.some((test) => test.name === name)) named.push({ file, name });
        }
      }
    }
  }
  return byId;
}

function* testFiles(): Iterable<{ file: string; text: string }> {
  const packages = readdirSync(join(ROOT, "packages")).map((name) => `packages/${name}/test`);
  for (const folder of [...packages, "examples/test", "conformance/test"]) {
    for (const name of readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).toSorted()) {
      if (!name.endsWith(".test.ts")) continue;
      const file = `${folder}/${name}`;
      yield { file, text: readFileSync(join(ROOT, file), "utf8") };
    }
  }
}
