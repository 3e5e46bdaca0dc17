/** What a checker or the run itself found to be wrong. */
import { RULES } from "./rules.js";
import { wrap } from "./timeline/wrap.js";

export interface Finding {
  /** A key of RULES. */
  readonly rule: string;
  /** What happened, with names and numbers. */
  readonly what: string;
  /** Who should have done what instead. */
  readonly should?: string;
}

/** On one line: what happened, and who should have done what. */
export function describeFinding({ rule, what, should }: Finding): string {
  return `${rule}: ${what}${should === undefined ? "" : ` (${should})`}`;
}

/** On lines of at most 120 columns: what happened, which rule that breaks, and who should have done what. */
export function findingLines({ rule, what, should }: Finding): string[] {
  const [first, ...rest] = what.split("\n");
  const lines = [`${rule}: ${first}`, ...rest, `  rule: ${RULES[rule] ?? "of a checker of its own"}`];
  if (should !== undefined) lines.push(`  instead: ${should}`);
  return lines.flatMap((line) => wrap(line, 4));
}
