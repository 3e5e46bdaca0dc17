/**
 * Everything that may sleep suspends through the scheduler, and only through it. One rule makes that fast and
 * deterministic: whoever suspends hands control back in the same synchronous call, and the scheduler resolves exactly
 * one promise at a time. Await the promise of a suspending call at once; between suspensions a thread is alone.
 *
 * The world runs only while somebody runs it: `run` starts a thread from outside and the clock, the other threads and
 * the hardware stand still again when it has finished.
 */
import { token } from "../platform/token.js";
import { type Timer, TimerHeap } from "./timer-heap.js";

export type { Timer } from "./timer-heap.js";

/** A unit of hardware that works step by step: a queue consumer, a DMA engine. */
export interface HardwareUnit {
  readonly name: string;
  /** Does one step; false when there is nothing left to do. */
  step(): boolean;
}

export interface Scheduler {
  /** Virtual nanoseconds since the platform started. */
  readonly now: number;
  /** The running thread; null outside of `run`, in timers and in interrupt context. */
  readonly current: Thread | null;
  /** Points may let another thread run, and hardware works later than it is kicked: somebody explores interleavings. */
  readonly preemptive: boolean;
  /** Runs `body` as a thread and the world with it until it ends. For callers outside of the world. */
  run<T>(body: () => Promise<T>, name?: string): Promise<T>;
  /** Starts a kernel or user thread. */
  spawn(name: string, body: () => Promise<void>): Thread;
  /**
   * A place where another thread may run: between two stores to a live entry, while polling a register.
   * Undefined when none does, so that a path that is taken a million times can go on without a promise.
   */
  point(name: string): Promise<void> | undefined;
  /** Gives every other ready thread a turn. */
  yield(): Promise<void>;
  sleep(nanoseconds: number): Promise<void>;
  /** Suspends the running thread until `wake`. @param reason what it waits for; stands in deadlock reports */
  park(reason: string): Promise<void>;
  wake(thread: Thread): void;
  /** Waits until no other thread is ready; does not let time pass. */
  idle(): Promise<void>;
  /** Calls back, outside of any thread, when the time has come. */
  timer(nanoseconds: number, callback: () => void): Timer;
  /** When the next timer fires; undefined when none is set. For whoever lets the world keep pace with real time. */
  readonly nextTimer: number | undefined;
  /** Tells that a unit has work. By default it works to the end before the call returns. */
  kick(unit: HardwareUnit): void;
  /** One of `count` possibilities (0 … count-1). 0 unless somebody explores. */
  choose(count: number, what: string): number;
}
export const Scheduler = token<Scheduler>("Scheduler");

export class Thread {
  /** What it waits for; empty while it runs or is ready. */
  waitsFor = "";
  done = false;
  resume: (() => void) | null = null;

  constructor(
    readonly id: number,
    readonly name: string,
  ) {}
}

/** Nothing is ready, no timer is pending, and the caller of `run` still waits. */
export class DeadlockError extends Error {
  override readonly name = "DeadlockError";
  constructor(readonly threads: readonly Thread[]) {
    super(`deadlock: ${threads.map((thread) => `${thread.name} waits for ${thread.waitsFor}`).join("; ")}`);
  }
}

const DONE = Promise.resolve();

/** The default scheduler: first come, first served, in virtual time. */
export class VirtualTimeScheduler implements Scheduler {
  now = 0;
  current: Thread | null = null;
  readonly preemptive = false;
  readonly #ready: Thread[] = [];
  readonly #parked = new Set<Thread>();
  readonly #idlers: Thread[] = [];
  readonly #timers = new TimerHeap();
  /** Threads that somebody outside waits for, with what tells them of a deadlock. */
  readonly #mains = new Map<Thread, (reason: unknown) => void>();
  #nextId = 1;

  run<T>(body: () => Promise<T>, name = "main"): Promise<T> {
    if (this.current !== null)
      throw new Error(`run("${name}") inside the thread ${this.current.name}: call the function itself, or spawn`);
    return new Promise<T>((resolve, reject) => {
      let outcome: () => void = () => {};
      const main = this.#start(
        name,
        async () => {
          try {
            const value = await body();
            outcome = () => resolve(value);
          } catch (error) {
            outcome = () => reject(error);
          }
        },
        () => {
          this.#mains.delete(main);
          outcome();
        },
      );
      this.#mains.set(main, reject);
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
      .then(finish, (error) => {
        // A thread that throws is a bug: whoever runs the world hears of it.
        for (const [main, reject] of this.#mains) {
          this.#mains.delete(main);
          reject(error);
        }
        finish();
      });
    this.#ready.push(thread);
    return thread;
  }

  point(_name: string): Promise<void> | undefined {
    return undefined;
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
    return this.#suspend(thread);
  }

  wake(thread: Thread): void {
    if (!this.#parked.delete(thread)) return;
    thread.waitsFor = "";
    this.#ready.push(thread);
  }

  idle(): Promise<void> {
    const thread = this.#running("idle");
    if (this.#ready.length === 0) return DONE;
    this.#idlers.push(thread);
    return this.#suspend(thread);
  }

  timer(nanoseconds: number, callback: () => void): Timer {
    return this.#timers.add(this.now + nanoseconds, callback);
  }

  get nextTimer(): number | undefined {
    return this.#timers.next;
  }

  kick(unit: HardwareUnit): void {
    while (unit.step());
  }

  choose(_count: number, _what: string): number {
    return 0;
  }

  #running(what: string): Thread {
    if (this.current === null) throw new Error(`${what}: only a thread can wait; use scheduler.run(…) from outside`);
    return this.current;
  }

  #suspend(thread: Thread): Promise<void> {
    const promise = new Promise<void>((resolve) => {
      thread.resume = resolve;
    });
    this.current = null;
    this.#dispatch();
    return promise;
  }

  /** Resumes the next thread, letting time pass when none is ready. */
  #dispatch(): void {
    if (this.current !== null) return;
    while (this.#mains.size > 0) {
      const next = this.#ready.shift() ?? this.#idlers.shift();
      if (next) {
        this.current = next;
        next.resume?.();
        return;
      }
      const timer = this.#timers.take();
      if (timer === undefined) {
        const waiting = [...this.#parked];
        for (const [main, reject] of this.#mains) {
          this.#mains.delete(main);
          reject(new DeadlockError(waiting));
        }
        return;
      }
      this.now = timer.at;
      timer.callback();
    }
  }
}
