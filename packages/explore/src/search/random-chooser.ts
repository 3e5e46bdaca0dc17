/**
 * Random walks. How often a walk leaves the default schedule is drawn once per run, from hardly ever to always: bugs that
 * need one switch at the right place and bugs that need many are found by different walks.
 */
import { Random } from "@iommukit/core";
import type { Chooser } from "../schedule/chooser.js";

/** Of 256: how likely a choice is not possibility 0. */
const RESTLESSNESS = [8, 24, 64, 128, 230] as const;
/** Of 256: rare events, an allocation that fails, a beat that is old. */
const RARE = 12;

/** One random walk. */
export class RandomChooser implements Chooser {
  readonly #random: Random;
  readonly #restlessness: number;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#restlessness = this.#random.pick(RESTLESSNESS);
  }

  next(actors: readonly unknown[]): number {
    return this.#leave(this.#restlessness) ? 1 + this.#random.below(actors.length) : 0;
  }

  value(count: number): number {
    return this.#leave(RARE) ? 1 + this.#random.below(count - 1) : 0;
  }

  #leave(likely: number): boolean {
    return (this.#random.u32() & 0xff) < likely;
  }
}
