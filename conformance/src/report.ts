/** Counts what a run compared and prints a line for every difference; the last line is the total. */
export class Report {
  passed = 0;
  failed = 0;
  readonly #print: (line: string) => void;
  readonly #reasons = new Map<string, number>();

  constructor(print: (line: string) => void = console.log) {
    this.#print = print;
  }

  pass(count = 1): void {
    this.passed += count;
  }

  /** `line` says where, what was expected and what came instead. */
  fail(line: string): void {
    this.failed++;
    this.#print(`FAIL ${line.replaceAll(/\p{Cc}/gu, " ")}`);
  }

  /** Judges one case; a case that cannot be read throws, and has failed. */
  async attempt(where: string, judge: () => void | Promise<void>): Promise<void> {
    try {
      await judge();
    } catch (error) {
      this.fail(`${where}: ${reasonOf(error)}`);
    }
  }

  /** A line that is neither. */
  note(line: string): void {
    this.#print(line);
  }

  /** A record that this model cannot answer by design; counted by reason, neither passed nor failed. */
  notApplicable(reason: string): void {
    this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1);
  }

  get lastLine(): string {
    return `${this.passed} passed, ${this.failed} failed`;
  }

  /** Prints what was left out and the last line; returns the exit status. */
  finish(): number {
    for (const [reason, count] of this.#reasons) this.#print(`not applicable: ${count} × ${reason}`);
    this.#print(this.lastLine);
    return this.failed > 0 ? 1 : 0;
  }
}

/** Why a case could not be judged. */
export function reasonOf(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error);
  // What the language says of a value of the wrong kind is no sentence of the suite's.
  const ours = !(error instanceof TypeError || error instanceof SyntaxError || error instanceof RangeError);
  return ours ? reason : `cannot be read: ${reason}`;
}
