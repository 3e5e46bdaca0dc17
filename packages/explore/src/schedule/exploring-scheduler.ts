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
import { DeadlockError, type HardwareUnit, type Scheduler, Thread, type Timer, TimerHeap } from "@iommukit/core";
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
}

interface Main {
  readonly reject: (reason: unknown) => void;
}

const DONE = Promise.resolve();

export class ExploringScheduler implements Scheduler {
  now = 0;
  current: Thread | null = null;
  readonly preemptive = true;
  /** Steps since `explore`. */
  steps = 0;
  decisions: Decisions = { counts: [], taken: [] };
  /** Told before each step of somebody else than before. */
  onSwitch: ((actor: Actor) => void) | undefined;
  /** Told when a thread stops, for whatever reason, or stands ready for the first time. */
  onSuspend: ((thread: Thread) => void) | undefined;
  /** Told when a thread goes to sleep. */
  onPark: ((thread: Thread) => void) | undefined;
  #chooser: Chooser = DEFAULT_CHOOSER;
  #exploring = false;
  #limit = Number.POSITIVE_INFINITY;
  readonly #ready: Actor[] = [];
  readonly #units = new Map<HardwareUnit, UnitActor>();
  readonly #parked = new Set<Thread>();
  readonly #away = new Set<Actor>();
  readonly #idlers: Thread[] = [];
  readonly #timers = new TimerHeap();
  readonly #mains = new Map<Thread, Main>();
  #nextId = 1;

  /** From now on `chooser` decides, and decisions are recorded anew. */
  explore(chooser: Chooser, limit = STEP_LIMIT): void {
    this.#chooser = chooser;
    this.#exploring = true;
    this.#limit = limit;
    this.steps = 0;
    this.decisions = { counts: [], taken: [] };
  }

  /** From now on the default schedule; nothing is recorded. */
  rest(): void {
    this.#chooser = DEFAULT_CHOOSER;
    this.#exploring = false;
    this.#limit = Number.POSITIVE_INFINITY;
  }

  get exploring(): boolean {
    return this.#exploring;
  }

  run<T>(body: () => Promise<T>, name = "main"): Promise<T> {
    if (this.current !== null)
      throw new Error(`run("${name}") inside the thread ${this.current.name}: call the function itself, or spawn`);
    return new Promise<T>((resolve, reject) => {
      let outcome: () => void = () => {};
      const settled = async () => {
        try {
          const value = await body();
          outcome = () => resolve(value);
        } catch (error) {
          outcome = () => reject(error);
        }
      };
      const main = this.#start(name, settled, () => {
        this.#mains.delete(main);
        outcome();
      });
      this.#mains.set(main, { reject });
      this.#dispatch();
    });
  }

  spawn(name: string, body: () => Promise<void>): Thread {
    return this.#start(name, body, () => {});
  }

  #start(name: string, body: () => Promise<void>, ended: () => void): Thread {
    const thread = new Thread(this.#nextId++, name);
    const finish = () => {
      thread.done = true;
      this.current = null;
      ended();
      this.#dispatch();
    };
    new Promise<void>((resolve) => {
      thread.resume = resolve;
    })
      .then(body)
      .then(finish, (error: unknown) => {
        this.#abandon(error);
        finish();
      });
    this.#ready.push(thread);
    this.onSuspend?.(thread);
    return thread;
  }

  /** Whoever runs the world hears that it cannot go on. */
  #abandon(error: unknown): void {
    const mains = [...this.#mains.values()];
    this.#mains.clear();
    for (const { reject } of mains) reject(error);
  }

  point(_name: string): Promise<void> | undefined {
    const thread = this.current;
    if (thread === null || !this.#exploring || !this.#hasChoice(1)) return undefined;
    this.#ready.unshift(thread);
    const next = this.#take();
    if (next === thread) return undefined;
    // Who was passed over has just been at the head, unless it is away.
    if (this.#ready[0] === thread) this.#ready.push(this.#ready.shift() as Actor);
    return this.#suspend(thread, next);
  }

  yield(): Promise<void> {
    const thread = this.#running("yield");
    if (this.#ready.length === 0) return DONE;
    this.#ready.push(thread);
    return this.#suspend(thread);
  }

  sleep(nanoseconds: number): Promise<void> {
    const thread = this.#running("sleep");
    this.timer(nanoseconds, () => this.wake(thread));
    return this.park("time to pass");
  }

  park(reason: string): Promise<void> {
    const thread = this.#running(reason);
    thread.waitsFor = reason;
    this.#parked.add(thread);
    this.onPark?.(thread);
    return this.#suspend(thread);
  }

  wake(thread: Thread): void {
    if (!this.#parked.delete(thread)) return;
    thread.waitsFor = "";
    this.#ready.push(thread);
  }

  idle(): Promise<void> {
    const thread = this.#running("idle");
    if (this.#ready.length === 0 && this.#away.size === 0) return DONE;
    this.#idlers.push(thread);
    return this.#suspend(thread);
  }

  timer(nanoseconds: number, callback: () => void): Timer {
    return this.#timers.add(this.now + nanoseconds, callback);
  }

  get nextTimer(): number | undefined {
    return this.#timers.next;
  }

  /** The unit becomes an actor until it has no work left. */
  kick(unit: HardwareUnit): void {
    if (this.#units.has(unit)) return;
    const actor = new UnitActor(unit);
    this.#units.set(unit, actor);
    this.#ready.push(actor);
  }

  choose(count: number, _what: string): number {
    if (!this.#exploring || count < 2) return 0;
    return this.#record(count, this.#chooser.value(count, this.decisions.counts.length));
  }

  /** Threads that wait, with what they wait for. */
  get waiting(): readonly Thread[] {
    return [...this.#parked];
  }

  #running(what: string): Thread {
    if (this.current === null) throw new Error(`${what}: only a thread can wait; use scheduler.run(…) from outside`);
    return this.current;
  }

  #suspend(thread: Thread, next?: Actor): Promise<void> {
    const promise = new Promise<void>((resolve) => {
      thread.resume = resolve;
    });
    this.current = null;
    this.onSuspend?.(thread);
    this.#dispatch(next);
    return promise;
  }

  /** Takes the next actor out of the queue. */
  #take(): Actor | undefined {
    const ready = this.#ready;
    if (!this.#exploring || !this.#hasChoice(0)) return ready.shift();
    const at = this.#record(ready.length + 1, this.#chooser.next(ready, this.decisions.counts.length));
    if (at < ready.length) return at === 0 ? ready.shift() : ready.splice(at, 1)[0];
    this.#takeAway(ready.shift() as Actor);
    return ready.shift();
  }

  /** Something else can happen than that the first of the queue goes on. @param others that are about to be in the queue */
  #hasChoice(others: number): boolean {
    const ready = this.#ready.length + others;
    return ready > 1 || (ready === 1 && this.#timers.next !== undefined);
  }

  #takeAway(actor: Actor): void {
    this.#away.add(actor);
    this.#timers.add(this.now + ABSENCE, () => {
      this.#away.delete(actor);
      this.#ready.push(actor);
    });
  }

  #record(count: number, wanted: number): number {
    // A schedule of another run may ask for what is not there.
    const taken = wanted < count ? wanted : 0;
    this.decisions.counts.push(count);
    this.decisions.taken.push(taken);
    return taken;
  }

  #dispatch(first?: Actor): void {
    if (this.current !== null) return;
    for (let next = first; this.#mains.size > 0; next = undefined) {
      const actor = next ?? this.#take() ?? (this.#away.size === 0 ? this.#idlers.shift() : undefined);
      if (actor === undefined) {
        if (!this.#passTime()) return;
        continue;
      }
      if (++this.steps > this.#limit) {
        this.#abandon(new LivelockError(this.steps - 1, actor.name));
        return;
      }
      this.onSwitch?.(actor);
      if (isThread(actor)) {
        this.current = actor;
        actor.resume?.();
        return;
      }
      this.#step(actor);
    }
  }

  #step(actor: UnitActor): void {
    let more: boolean;
    try {
      more = actor.unit.step();
    } catch (error) {
      this.#abandon(error);
      return;
    }
    if (more) this.#ready.unshift(actor);
    else this.#units.delete(actor.unit);
  }

  #passTime(): boolean {
    const timer = this.#timers.take();
    if (timer === undefined) {
      this.#abandon(new DeadlockError(this.waiting));
      return false;
    }
    this.now = timer.at;
    timer.callback();
    return true;
  }
}
