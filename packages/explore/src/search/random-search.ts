/** Random walks and PCT in turn, from one seed. Shard i of n takes every n-th run: the shards together are one campaign. */
import type { RunResult } from "../run.js";
import type { Chooser } from "../schedule/chooser.js";
import { PctChooser } from "./pct-chooser.js";
import { RandomChooser } from "./random-chooser.js";
import type { Search } from "./search.js";

/** Part `index` of `of`, from 1. */
export interface Shard {
  /** 1 … of. */
  readonly index: number;
  readonly of: number;
}

/** The only shard. */
export const WHOLE: Shard = { index: 1, of: 1 };

/** Depths of bugs that PCT looks for. */
const DEPTHS = [2, 3, 4] as const;

/** `new RandomSearch(seed, runs, shard)`. */
export class RandomSearch implements Search {
  #run: number;
  #choices = 64;

  /** @param runs of the whole campaign, not of the shard */
  constructor(
    private readonly seed: number,
    private readonly runs: number,
    private readonly shard: Shard = WHOLE,
  ) {
    this.#run = shard.index - 1;
  }

  next(): Chooser | undefined {
    if (this.#run >= this.runs) return undefined;
    const run = this.#run;
    this.#run += this.shard.of;
    const seed = Math.imul(this.seed, 0x9e37_79b1) ^ Math.imul(run + 1, 0x85eb_ca6b);
    return run % 2 === 0
      ? new RandomChooser(seed)
      : new PctChooser(seed, DEPTHS[(run >> 1) % DEPTHS.length], this.#choices);
  }

  done({ counts }: RunResult): void {
    this.#choices = Math.max(8, Math.round((3 * this.#choices + counts.length) / 4));
  }
}
