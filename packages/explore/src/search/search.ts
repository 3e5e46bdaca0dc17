/** A search proposes one chooser after the other, and learns from what came of it. */
import type { RunResult } from "../run.js";
import type { Chooser } from "../schedule/chooser.js";

/** What `explore` asks for the next run. */
export interface Search {
  /** Wants to know the states of runs. */
  readonly prunes?: boolean;
  /** The next run's chooser; undefined when there is nothing left to try. */
  next(): Chooser | undefined;
  /** What came of it. */
  done(result: RunResult): void;
}
