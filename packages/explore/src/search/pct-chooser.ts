/**
 * Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): every actor gets a random priority and the highest
 * runs; at `depth - 1` random choices the running one falls below all others, or is taken away. Of n actors and k choices a bug of depth d is
 * found with probability at least 1/(n·k^(d-1)).
 */
import { Random } from "@iommukit/core";
import type { Actor } from "../schedule/actor.js";
import type { Chooser } from "../schedule/chooser.js";

/** One PCT run. */
export class PctChooser implements Chooser {
  readonly #random: Random;
  readonly #priorities = new Map<Actor, number>();
  readonly #changes = new Set<number>();
  #lowest = 0;

  /** @param choices about how many a run has */
  constructor(seed: number, depth: number, choices: number) {
    this.#random = new Random(seed);
    for (let i = 1; i < depth; i++) this.#changes.add(this.#random.below(Math.max(1, choices)));
  }

  next(actors: readonly Actor[], at: number): number {
    const highest = this.#highest(actors);
    if (!this.#changes.has(at)) return highest;
    if (highest === 0 && (this.#random.u32() & 1) === 1) return actors.length;
    this.#priorities.set(actors[highest], --this.#lowest);
    return this.#highest(actors);
  }

  value(count: number, at: number): number {
    return this.#changes.has(at) ? 1 + this.#random.below(count - 1) : 0;
  }

  #highest(actors: readonly Actor[]): number {
    let best = 0;
    for (let i = 1; i < actors.length; i++) if (this.#priority(actors[i]) > this.#priority(actors[best])) best = i;
    return best;
  }

  #priority(actor: Actor): number {
    let priority = this.#priorities.get(actor);
    if (priority === undefined) {
      priority = 1 + this.#random.u32();
      this.#priorities.set(actor, priority);
    }
    return priority;
  }
}
