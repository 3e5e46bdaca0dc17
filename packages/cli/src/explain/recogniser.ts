/** How an input line finds the code that knows it. One recogniser per kind of input, each with its own state. */
import type { ExplainRecord } from "./record.js";

export interface Line {
  readonly text: string;
  /** From 1. */
  readonly number: number;
}

export type Emit = (record: ExplainRecord) => void;

export interface Recogniser {
  /** @returns whether the line was its; what it made of it may come with a later line or at the end */
  take(line: Line, emit: Emit): boolean;
  /** The input has ended, or a line came that no recogniser of a run of lines took. */
  end?(emit: Emit): void;
}
