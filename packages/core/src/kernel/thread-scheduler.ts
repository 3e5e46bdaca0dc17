/**
 * What schedulers of threads share: starting and ending them, sleeping and waking, timers, and who waits outside. Which of the
 * ready ones goes on is left to `dispatch`.
 */
import { DeadlockError, type HardwareUnit, type Scheduler, Thread } from "./scheduler.js";
import { type Timer, TimerHeap } from "./timer-heap.js";

const DONE = Promise.resolve();

/** @typeParam Other what may be ready beside threads */
export abstract class ThreadScheduler<Other = never> implements Scheduler {
  current: Thread | null = null;
  abstract readonly preemptive: boolean;
  protected clock = 0;
  /** Who can go on, longest waiting first. */
  protected readonly ready: (Thread | Other)[] = [];
  /** Threads that go on when nobody else can. */
  protected readonly idlers: Thread[] = [];
  protected readonly timers = new TimerHeap();
  readonly #parked = new Set<Thread>();
  /** Threads that somebody outside waits for, with what tells them that the world cannot go on. */
  readonly #mains = new Map<Thread, (reason: unknown) => void>();
  #nextId = 1;

  get now(): number {
    return this.clock;
  }

  abstract point(name: string): Promise<void> | undefined;
  abstract kick(unit: HardwareUnit): void;
  abstract choose(count: number, what: string): number;
  /** When nobody runs: resumes the next thread, letting time pass when none is ready. */
  protected abstract dispatch(): void;

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
      const main = this.start(name, settled, () => {
        this.#mains.delete(main);
        outcome();
      });
      this.#mains.set(main, reject);
      this.dispatch();
    });
  }

  spawn(name: string, body: () => Promise<void>): Thread {
    return this.start(name, body, () => {});
  }

  protected start(name: string, body: () => Promise<void>, ended: () => void): Thread {
    const thread = new Thread(this.#nextId++, name);
    const finish = () => {
      thread.done = true;
      this.current = null;
      ended();
      this.dispatch();
    };
    new Promise<void>((resolve) => {
      thread.resume = resolve;
    })
      .then(body)
      .then(finish, (error: unknown) => {
        // A thread that throws is a bug.
        this.abandon(error);
        finish();
      });
    this.ready.push(thread);
    return thread;
  }

  yield(): Promise<void> {
    const thread = this.running("yield");
    if (this.ready.length === 0) return DONE;
    this.ready.push(thread);
    return this.suspend(thread);
  }

  sleep(nanoseconds: number): Promise<void> {
    const thread = this.running("sleep");
    this.timer(nanoseconds, () => this.wake(thread));
    return this.park("time to pass");
  }

  park(reason: string): Promise<void> {
    const thread = this.running(reason);
    thread.waitsFor = reason;
    this.#parked.add(thread);
    return this.suspend(thread);
  }

  wake(thread: Thread): void {
    if (!this.#parked.delete(thread)) return;
    thread.waitsFor = "";
    this.ready.push(thread);
  }

  idle(): Promise<void> {
    const thread = this.running("idle");
    if (this.atRest) return DONE;
    this.idlers.push(thread);
    return this.suspend(thread);
  }

  timer(nanoseconds: number, callback: () => void): Timer {
    return this.timers.add(this.clock + nanoseconds, callback);
  }

  get nextTimer(): number | undefined {
    return this.timers.next;
  }

  /** Threads that wait, with what they wait for. */
  get waiting(): readonly Thread[] {
    return [...this.#parked];
  }

  /** Nobody but the running thread can go on before time passes. */
  protected get atRest(): boolean {
    return this.ready.length === 0;
  }

  /** Somebody outside waits for the end of a thread: the world goes on. */
  protected get wanted(): boolean {
    return this.#mains.size > 0;
  }

  protected running(what: string): Thread {
    if (this.current === null) throw new Error(`${what}: only a thread can wait; use platform.run(…) from outside`);
    return this.current;
  }

  /** Hands control back in the same call: whoever is next has begun when this returns. */
  protected suspend(thread: Thread): Promise<void> {
    const turn = this.turnOf(thread);
    this.dispatch();
    return turn;
  }

  /** Stops the thread. @returns what is fulfilled when it goes on */
  protected turnOf(thread: Thread): Promise<void> {
    this.current = null;
    return new Promise<void>((resolve) => {
      thread.resume = resolve;
    });
  }

  protected resume(thread: Thread): void {
    this.current = thread;
    thread.resume?.();
  }

  /** Lets time pass until the next timer. False when there is none: nobody can go on. */
  protected passTime(): boolean {
    const timer = this.timers.take();
    if (timer === undefined) {
      this.abandon(new DeadlockError(this.waiting));
      return false;
    }
    this.clock = timer.at;
    timer.callback();
    return true;
  }

  /** Whoever runs the world hears that it cannot go on. */
  protected abandon(error: unknown): void {
    const mains = [...this.#mains.values()];
    this.#mains.clear();
    for (const reject of mains) reject(error);
  }
}
