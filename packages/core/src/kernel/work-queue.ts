/** A work queue: functions that run later on worker threads, and flush, which waits for all that were queued before. */
import type { Scheduler } from "./scheduler.js";
import { WaitQueue } from "./wait-queue.js";

type Work = () => Promise<void>;

/** workqueue_struct. */
export class WorkQueue {
  /** Oldest first: a set gives its first up at once, however many there are. */
  readonly #pending = new Set<{ readonly work: Work; readonly ticket: number }>();
  readonly #running = new Set<number>();
  readonly #finished: WaitQueue;
  #workers = 0;
  #tickets = 0;

  /** @param maxActive how many functions may run at once: 1 for an ordered queue */
  constructor(
    private readonly scheduler: Scheduler,
    readonly name: string,
    private readonly maxActive = 1,
  ) {
    this.#finished = new WaitQueue(scheduler, `work on ${name}`);
  }

  /** Queues without sleeping: interrupt context may call it. */
  queue(work: Work): void {
    this.#pending.add({ work, ticket: this.#tickets++ });
    if (this.#workers < this.maxActive) {
      this.#workers++;
      this.scheduler.spawn(`kworker/${this.name}`, () => this.#drain());
    }
  }

  async #drain(): Promise<void> {
    for (const next of this.#pending) {
      this.#pending.delete(next);
      this.#running.add(next.ticket);
      await next.work();
      this.#running.delete(next.ticket);
      this.#finished.wakeAll();
    }
    this.#workers--;
  }

  /** Waits for everything queued before the call. */
  async flush(): Promise<void> {
    const limit = this.#tickets;
    await this.#finished.wait(() => ![...this.#running].some((ticket) => ticket < limit) && this.#oldest >= limit);
  }

  /** Ticket of what runs next. */
  get #oldest(): number {
    for (const { ticket } of this.#pending) return ticket;
    return this.#tickets;
  }

  get busy(): boolean {
    return this.#pending.size > 0 || this.#running.size > 0;
  }
}
