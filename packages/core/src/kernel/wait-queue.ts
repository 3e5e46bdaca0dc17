/** wait_event and wake_up: threads that wait for a condition. */
import type { Scheduler, Thread } from "./scheduler.js";

const DONE = Promise.resolve();

/** wait_queue_head_t. */
export class WaitQueue {
  readonly #threads = new Set<Thread>();

  constructor(
    private readonly scheduler: Scheduler,
    readonly name: string,
  ) {}

  /** Suspends until `condition` holds; it is looked at again after each wake-up. */
  wait(condition: () => boolean): Promise<void> {
    return condition() ? DONE : this.#until(condition);
  }

  async #until(condition: () => boolean): Promise<void> {
    do await this.#park();
    while (!condition());
  }

  /** As `wait`, for at most `nanoseconds`. @returns whether the condition holds */
  async waitTimeout(condition: () => boolean, nanoseconds: number): Promise<boolean> {
    const deadline = this.scheduler.now + nanoseconds;
    const thread = this.scheduler.current;
    const timer = thread && this.scheduler.timer(nanoseconds, () => this.scheduler.wake(thread));
    while (!condition() && this.scheduler.now < deadline) await this.#park();
    timer?.cancel();
    return condition();
  }

  async #park(): Promise<void> {
    const thread = this.scheduler.current;
    if (thread === null) throw new Error(`${this.name}: only a thread can wait`);
    this.#threads.add(thread);
    await this.scheduler.park(this.name);
    this.#threads.delete(thread);
  }

  wakeAll(): void {
    if (this.#threads.size === 0) return;
    for (const thread of this.#threads) this.scheduler.wake(thread);
    this.#threads.clear();
  }

  wakeOne(): void {
    for (const thread of this.#threads) {
      this.#threads.delete(thread);
      this.scheduler.wake(thread);
      return;
    }
  }
}
