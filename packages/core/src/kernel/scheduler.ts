/**
 * Everything that may sleep suspends through the scheduler, and only through it. One rule makes that fast and
 * deterministic: whoever suspends hands control back in the same synchronous call, and the scheduler resolves exactly
 * one promise at a time. Await the promise of a suspending call at once; between suspensions a thread is alone.
 *
 * The world runs only while somebody runs it: `run` starts a thread from outside and the clock, the other threads and
 * the hardware stand still again when it has finished.
 */
import { token } from "../platform/token.js";
import type { Timer } from "./timer-heap.js";

export type { Timer } from "./timer-heap.js";

/** A unit of hardware that works step by step: a queue consumer, a DMA engine. */
export interface HardwareUnit {
  readonly name: string;
  /** Does one step; false when there is nothing left to do. */
  step(): boolean;
}

/** Time is in nanoseconds. Every method that waits is for threads; `run` makes one. */
export interface Scheduler {
  /** Virtual nanoseconds since the platform started. */
  readonly now: number;
  /** The running thread; null outside of `run`, in timers and in interrupt context. */
  readonly current: Thread | null;
  /** Somebody explores interleavings now: points may let another thread run, and hardware works later than it is kicked. */
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

/** Whoever can wait: made by `run` and `spawn`. */
export class Thread {
  /** What it waits for; empty while it runs or is ready. */
  waitsFor = "";
  done = false;
  resume: (() => void) | null = null;
  /** For who watches the scheduler: a clock of its own when the thread stopped last. */
  stoppedAt = 0;

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
