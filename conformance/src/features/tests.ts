/**
 * Which tests there are, and which of them count: those that vitest's own projects collect and that are not skipped; with
 * the report of a run, those that passed in it. Comments, other strings and files outside of the projects count nothing.
 */
import { relative } from "node:path";
import { createVitest } from "vitest/node";

export interface TestName {
  /** Relative to the repository. */
  readonly file: string;
  /** With the names of the blocks around it. */
  readonly name: string;
}

/** Vitest's JSON report, as far as it is needed. */
export interface TestResults {
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

export function isTestResults(document: unknown): document is TestResults {
  return typeof document === "object" && document !== null && "testResults" in document;
}

/** The tests below `root` that `npm test` runs, read from their source without running them. */
export async function declaredTests(root: string): Promise<TestName[]> {
  const vitest = await createVitest("test", { root, watch: false, reporters: [] });
  try {
    const modules = await vitest.experimental_parseSpecifications(await vitest.globTestSpecifications());
    return modules.flatMap((module) =>
      [...module.children.allTests()]
        .filter(({ options }) => options.mode === "run" || options.mode === "only")
        .map(({ fullName }) => ({ file: relative(root, module.moduleId), name: fullName })),
    );
  } finally {
    await vitest.close();
  }
}

export function passedTests({ testResults }: TestResults, root: string): TestName[] {
  return testResults.flatMap(({ name: file, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === "passed")
      .map(({ fullName }) => ({ file: relative(root, file), name: fullName })),
  );
}

/** Tests by the ids that their names cite: "(A9)", "(C9, L-9)", "(5.4, G16)". */
export function citations(tests: Iterable<TestName>): Map<string, TestName[]> {
  const byId = new Map<string, TestName[]>();
  for (const test of tests) {
    const ids = new Set<string>();
    for (const [, inside] of test.name.matchAll(/\(([^()]*)\)/g)) {
      for (const [id] of inside.matchAll(/(?<![\w.-])[A-Z]-?\d+(?![\w.-])/g)) ids.add(id);
    }
    for (const id of ids) byId.set(id, [...(byId.get(id) ?? []), test]);
  }
  return byId;
}
