/**
 * The scheduler that owns every choice. It runs one actor at a time: a thread until it suspends or reaches a point, a unit of
 * hardware for one step. Wherever something else could happen, and wherever a model asks `choose`, a chooser decides; what it
 * decided is recorded, and the same decisions give the same run.
 *
 * The default schedule runs each actor until it blocks, first come, first served, and lets time pass only when nothing else
 * can happen. At each choice the others that are ready are possibilities 1, 2, …: whoever is passed over goes to the end of
 * the queue. The last possibility takes the actor away for a while, as a hypervisor does with a processor: meanwhile the others
 * go on, and time passes for those that sleep.
 */
import { type HardwareUnit, type Thread, ThreadScheduler, type Timer } from "@iommukit/core";
import type { History } from "../reduction/history.js";
import { type Actor, isThread, UnitActor } from "./actor.js";
import { type Chooser, DEFAULT_CHOOSER } from "./chooser.js";

/** More steps than any correct run of a scenario takes. */
export const STEP_LIMIT = 20_000;

/** Virtual nanoseconds for which an actor is taken away: longer than the others need for what they are about to do. */
const ABSENCE = 200_000;

/** The run does not end. */
export class LivelockError extends Error {
  override readonly name = "LivelockError";
  constructor(
    readonly steps: number,
    readonly running: string,
  ) {
    super(`no end after ${steps} steps; ${running} runs`);
  }
}

/** What a run decided, and where it could have decided otherwise. */
export interface Decisions {
  /** Possibilities at each choice. */
  readonly counts: number[];
  /** Possibility taken at each choice. */
  readonly taken: number[];
  /** State before each choice, when somebody keeps a history. */
  readonly states: number[];
}

/** Kinds of choices. */
const Choice = { GO_ON: 1, NEXT: 2, VALUE: 3 } as const;

/** For `createPlatform({ scheduler })`. */
export class ExploringScheduler extends ThreadScheduler<UnitActor> {
  /** Steps since `explore`. */
  steps = 0;
  decisions: Decisions = { counts: [], taken: [], states: [] };
  /** Told of everything that tells states apart, while somebody explores. */
  history: History | undefined;
  /** Told before each step of somebody else than before. */
  onSwitch: ((actor: Actor) => void) | undefined;
  /** Told when a thread stops, for whatever reason, or stands ready for the first time. */
  onSuspend: ((thread: Thread) => void) | undefined;
  /** Told when a thread goes to sleep, and what for. */
  onPark: ((thread: Thread, reason: string) => void) | undefined;
  #chooser: Chooser = DEFAULT_CHOOSER;
  #exploring = false;
  #limit = Number.POSITIVE_INFINITY;
  /** When `explore` was called. */
  #start = 0;
  readonly #units = new Set<HardwareUnit>();
  /** How many have been taken away for a while. */
  #away = 0;

  /** From now on `chooser` decides, and decisions are recorded anew. */
  explore(chooser: Chooser, limit = STEP_LIMIT): void {
    this.#chooser = chooser;
    this.#exploring = true;
    this.#limit = limit;
    this.steps = 0;
    this.#start = this.clock;
    this.decisions = { counts: [], taken: [], states: [] };
    this.history?.begin(this.waiting);
  }

  /** From now on as when nobody explores; nothing is recorded. */
  rest(): void {
    this.#chooser = DEFAULT_CHOOSER;
    this.#exploring = false;
    this.#limit = Number.POSITIVE_INFINITY;
    this.history?.stop();
  }

  get #history(): History | undefined {
    return this.#exploring ? this.history : undefined;
  }

  /** True while a chooser decides. */
  get preemptive(): boolean {
    return this.#exploring;
  }

  protected override start(name: string, body: () => Promise<void>, ended: () => void): Thread {
    const thread = super.start(name, body, ended);
    this.#history?.born(thread);
    this.onSuspend?.(thread);
    return thread;
  }

  point(_name: string): Promise<void> | undefined {
    const thread = this.current;
    if (thread === null || !this.#exploring) return undefined;
    const { ready } = this;
    this.#history?.close();
    let next: Actor | undefined = thread;
    if (this.#hasChoice(1)) {
      ready.unshift(thread);
      next = this.#take(Choice.GO_ON);
    }
    if (next === thread) {
      this.#history?.open(thread);
      return undefined;
    }
    // Who was passed over has just been at the head, unless it is away.
    if (ready[0] === thread) ready.push(ready.shift() as Actor);
    return this.#handOver(thread, next);
  }

  override park(reason: string): Promise<void> {
    this.onPark?.(this.running(reason), reason);
    this.#history?.saw(reason);
    return super.park(reason);
  }

  override wake(thread: Thread): void {
    this.#history?.woken(thread);
    super.wake(thread);
  }

  protected override get atRest(): boolean {
    return super.atRest && this.#away === 0;
  }

  /** While somebody explores the unit becomes an actor until it has no work left. */
  kick(unit: HardwareUnit): void {
    if (!this.#exploring) {
      while (unit.step());
      return;
    }
    if (this.#units.has(unit)) return;
    this.#units.add(unit);
    const actor = new UnitActor(unit);
    this.#history?.born(actor);
    this.ready.push(actor);
  }

  override get now(): number {
    this.#history?.readClock();
    return this.clock;
  }

  override timer(nanoseconds: number, callback: () => void): Timer {
    this.#history?.setTimer();
    return super.timer(nanoseconds, callback);
  }

  choose(count: number, _what: string): number {
    if (!this.#exploring || count < 2) return 0;
    const taken = this.#record(Choice.VALUE, count, this.#chooser.value(count, this.decisions.counts.length));
    this.#history?.saw(taken);
    return taken;
  }

  protected override suspend(thread: Thread): Promise<void> {
    return this.#handOver(thread);
  }

  #handOver(thread: Thread, next?: Actor): Promise<void> {
    const turn = this.turnOf(thread);
    this.onSuspend?.(thread);
    this.dispatch(next);
    return turn;
  }

  /** Takes the next actor out of the queue. */
  #take(choice: number): Actor | undefined {
    const { ready } = this;
    if (!this.#exploring || !this.#hasChoice(0)) return ready.shift();
    const at = this.#record(choice, ready.length + 1, this.#chooser.next(ready, this.decisions.counts.length));
    if (at < ready.length) return at === 0 ? ready.shift() : ready.splice(at, 1)[0];
    this.#takeAway(ready.shift() as Actor);
    return ready.shift();
  }

  /** Something else can happen than that the first of the queue goes on. @param others that are about to be in the queue */
  #hasChoice(others: number): boolean {
    const ready = this.ready.length + others;
    return ready > 1 || (ready === 1 && this.timers.next !== undefined);
  }

  #takeAway(actor: Actor): void {
    this.#away++;
    this.#history?.tookAway(actor);
    super.timer(ABSENCE, () => {
      this.#away--;
      this.ready.push(actor);
    });
  }

  #record(choice: number, count: number, wanted: number): number {
    const history = this.#history;
    if (history) this.decisions.states.push(history.state(choice, this.clock - this.#start, this.ready, this.idlers));
    // A schedule of another run may ask for what is not there.
    const taken = wanted < count ? wanted : 0;
    this.decisions.counts.push(count);
    this.decisions.taken.push(taken);
    return taken;
  }

  protected dispatch(first?: Actor): void {
    if (this.current !== null) return;
    const history = this.#history;
    history?.close();
    for (let next = first; this.wanted; next = undefined) {
      const actor = next ?? this.#take(Choice.NEXT) ?? (this.#away === 0 ? this.idlers.shift() : undefined);
      if (actor === undefined) {
        if (!this.passTime()) return;
        continue;
      }
      if (++this.steps > this.#limit) {
        this.abandon(new LivelockError(this.steps - 1, actor.name));
        return;
      }
      this.onSwitch?.(actor);
      history?.open(actor);
      if (isThread(actor)) {
        this.resume(actor);
        return;
      }
      this.#step(actor);
      history?.close();
    }
  }

  protected override passTime(): boolean {
    this.#history?.passTime();
    const more = super.passTime();
    this.#history?.close();
    return more;
  }

  #step(actor: UnitActor): void {
    let more: boolean;
    try {
      more = actor.unit.step();
    } catch (error) {
      this.abandon(error);
      return;
    }
    if (more) this.ready.unshift(actor);
    else this.#units.delete(actor.unit);
  }
}
