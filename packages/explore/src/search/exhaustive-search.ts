/**
 * Every schedule with at most `bound` choices that differ from the default one (delay bounding: Emmi, Qadeer, Rakamarić,
 * POPL 2011). The default runs each actor until it blocks, so a schedule with p preemptions differs in at most p choices from
 * some schedule that only blocks; two are enough for most races that people have found.
 *
 * The schedules form a tree: a node is a schedule, its children differ in one choice more, behind its last. A run tells how many
 * choices there are behind. Fewest differences first, so what is found first is shortest.
 *
 * Pruning: a run that comes to a state (`History`) in which another run has been with as many differences left can go on in no way
 * in which the other could not: nothing behind that choice is tried again. What a state does not see is said there.
 */
import type { RunResult } from "../run.js";
import type { Chooser } from "../schedule/chooser.js";
import { ReplayChooser } from "../schedule/replay-chooser.js";
import type { Schedule } from "../schedule/schedule.js";
import { type Shard, WHOLE } from "./random-search.js";
import type { Search } from "./search.js";

interface Node {
  readonly schedule: Schedule;
  /** First choice that a child may change. */
  readonly from: number;
}

/** `new ExhaustiveSearch(bound, shard, prune)`. */
export class ExhaustiveSearch implements Search {
  /** Nodes to run, by number of differences. */
  readonly #levels: Node[][];
  #level = 0;
  #current: Node = { schedule: new Map(), from: 0 };
  #roots = 0;
  /** State → differences that could still be made when a run was there. */
  readonly #covered = new Map<number, number>();

  constructor(
    private readonly bound: number,
    private readonly shard: Shard = WHOLE,
    readonly prunes = false,
  ) {
    this.#levels = Array.from({ length: bound + 1 }, () => []);
    this.#levels[0].push(this.#current);
  }

  next(): Chooser | undefined {
    while (this.#level <= this.bound && this.#levels[this.#level].length === 0) this.#level++;
    const node = this.#levels[this.#level]?.pop();
    if (node === undefined) return undefined;
    this.#current = node;
    return new ReplayChooser(node.schedule);
  }

  done({ counts, states }: RunResult): void {
    const { schedule, from } = this.#current;
    const level = schedule.size + 1;
    if (level > this.bound) return;
    for (let at = from; at < counts.length; at++) {
      if (this.prunes && this.#isCovered(states[at], this.bound - schedule.size)) return;
      for (let option = 1; option < counts[at]; option++) {
        if (level === 1 && this.#roots++ % this.shard.of !== this.shard.index - 1) continue;
        this.#levels[level].push({ schedule: new Map([...schedule, [at, option]]), from: at + 1 });
      }
    }
  }

  /** Each shard runs the root, so what a shard leaves out for its sake another one tries. */
  #isCovered(state: number, left: number): boolean {
    if ((this.#covered.get(state) ?? 0) >= left) return true;
    this.#covered.set(state, left);
    return false;
  }
}
