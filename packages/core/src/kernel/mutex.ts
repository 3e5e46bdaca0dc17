/** Mutexes and spinlocks. Both suspend the waiter; a spinlock's holder must not sleep, which the trace lets a checker see. */
import type { Tracer } from "../trace/tracer.js";
import type { Scheduler, Thread } from "./scheduler.js";

const DONE = Promise.resolve();

/** Waiters get it first come, first served. `with` gives it back whatever happens. */
export class Mutex {
  #owner: Thread | null = null;
  readonly #waiters: Thread[] = [];
  readonly #point: string;

  /** @param name the lock's name in Linux: "iommu->lock", "iommu_sva_lock" */
  constructor(
    private readonly scheduler: Scheduler,
    private readonly trace: Tracer,
    readonly name: string,
    readonly kind: "mutex" | "spin" = "mutex",
  ) {
    this.#point = `lock ${name}`;
  }

  get held(): boolean {
    return this.#owner !== null;
  }

  get heldByCurrent(): boolean {
    return this.#owner !== null && this.#owner === this.scheduler.current;
  }

  lock(): Promise<void> {
    return this.#lock() ?? DONE;
  }

  /** Between the wish for a lock and the lock anybody may come. @returns undefined when it is taken already */
  #lock(): Promise<void> | undefined {
    const thread = this.scheduler.current;
    if (thread === null)
      throw new Error(`${this.name}: only a thread can wait for it; use platform.run(…) from outside`);
    const turn = this.scheduler.point(this.#point);
    return turn === undefined ? this.#take(thread) : this.#takeAfter(turn, thread);
  }

  async #takeAfter(turn: Promise<void>, thread: Thread): Promise<void> {
    await turn;
    await this.#take(thread);
  }

  #take(thread: Thread): Promise<void> | undefined {
    if (this.#owner === null) {
      this.#acquire(thread);
      return undefined;
    }
    if (this.#owner === thread) throw new Error(`${this.name}: ${thread.name} takes it twice`);
    return this.#wait(thread);
  }

  async #wait(thread: Thread): Promise<void> {
    this.#waiters.push(thread);
    if (this.trace.enabled)
      this.trace.emit("lock:contended", { lock: this.name, kind: this.kind, thread: thread.name });
    // The unlocker hands the lock over before it wakes us: no third thread can slip in between.
    await this.scheduler.park(`${this.#point} (held by ${this.#owner?.name})`);
    if (this.trace.enabled) this.trace.emit("lock:acquired", { lock: this.name, kind: this.kind, thread: thread.name });
  }

  #acquire(thread: Thread): void {
    this.#owner = thread;
    if (this.trace.enabled) this.trace.emit("lock:acquired", { lock: this.name, kind: this.kind, thread: thread.name });
  }

  unlock(): void {
    const owner = this.#owner;
    if (owner === null || owner !== this.scheduler.current)
      throw new Error(`${this.name}: unlocked by a thread that does not hold it`);
    if (this.trace.enabled) this.trace.emit("lock:released", { lock: this.name, kind: this.kind, thread: owner.name });
    const next = this.#waiters.shift();
    this.#owner = next ?? null;
    if (next) this.scheduler.wake(next);
  }

  async with<T>(body: () => Promise<T> | T): Promise<T> {
    const wait = this.#lock();
    if (wait) await wait;
    try {
      return await body();
    } finally {
      this.unlock();
    }
  }
}
