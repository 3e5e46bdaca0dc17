/** Who decides at each choice of a run. Possibility 0 is what happens when nobody explores. */
import type { Actor } from "./actor.js";

/** Answers a choice of n possibilities with a number below n. */
export interface Chooser {
  /**
   * Which actor goes on; `actors[0]` is the one that runs now, or has waited longest. `actors.length`: `actors[0]` is taken away
   * for a while.
   */
  next(actors: readonly Actor[], at: number): number;
  /** Which of `count` values a choice takes: the age of a fetch beat, whether an allocation fails. */
  value(count: number, at: number): number;
}

/** Nothing is explored. */
export const DEFAULT_CHOOSER: Chooser = { next: () => 0, value: () => 0 };
