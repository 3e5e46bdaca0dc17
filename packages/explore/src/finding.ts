/** What a checker or the run itself found to be wrong. */
import { RULES } from "./rules.js";
import { wrap } from "./timeline/wrap.js";

/** One broken rule, with what happened and what should have. */
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

/** Of more than so many the others are counted: one cause often breaks a rule at every step after it. */
const MOST = 4;

/**
 * On lines of at most 120 columns: what happened, which rules that breaks, and who should have done what. What is said twice
 * stands there once.
 */
export function findingLines(findings: readonly Finding[]): string[] {
  const said = new Set<string>();
  const lines: string[] = [];
  const say = (line: string) => {
    if (!said.has(line)) lines.push(line);
    said.add(line);
  };
  for (const { rule, what, should } of findings.slice(0, MOST)) {
    for (const [at, line] of what.split("\n").entries()) say(at === 0 ? `${rule}: ${line}` : line);
    say(`  rule: ${RULES[rule] ?? "of a checker of its own"}`);
    if (should !== undefined) say(`  instead: ${should}`);
  }
  if (findings.length > MOST) lines.push(`and ${findings.length - MOST} more`);
  return lines.flatMap((line) => wrap(line, 4));
}
