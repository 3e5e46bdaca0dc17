/** What a checker or the run itself found to be wrong. */
export interface Finding {
  /** "I-1" … "I-7" of the invariants, or "deadlock", "livelock", "leak", "freed", "time", "throw", "scenario". */
  readonly rule: string;
  /** What happened, with names and numbers. */
  readonly what: string;
  /** Who should have done what instead, and where that is written. */
  readonly should?: string;
}

export function describeFinding({ rule, what, should }: Finding): string {
  return `${rule}: ${what}${should === undefined ? "" : ` (${should})`}`;
}
