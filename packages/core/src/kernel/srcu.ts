/**
 * Sleepable read-copy-update: readers bracket their use of an object, and what they might still see is freed only after
 * all readers that were there have left (a grace period). Later readers do not delay it.
 */
import type { Scheduler } from "./scheduler.js";
import { WaitQueue } from "./wait-queue.js";
import { WorkQueue } from "./work-queue.js";

/** Readers that entered between two grace periods. */
interface Epoch {
  readers: number;
}

/** srcu_read_lock and synchronize_srcu. */
export class Srcu {
  #epoch: Epoch = { readers: 0 };
  readonly #left: WaitQueue;
  readonly #callbacks: WorkQueue;

  constructor(
    scheduler: Scheduler,
    readonly name: string,
  ) {
    this.#left = new WaitQueue(scheduler, `readers of ${name}`);
    this.#callbacks = new WorkQueue(scheduler, `srcu/${name}`);
  }

  /** srcu_read_lock and srcu_read_unlock around `body`, which may sleep. */
  async read<T>(body: () => Promise<T>): Promise<T> {
    const epoch = this.#epoch;
    epoch.readers++;
    try {
      return await body();
    } finally {
      if (--epoch.readers === 0) this.#left.wakeAll();
    }
  }

  /** call_srcu: runs `callback` later, when every reader of now has left; callbacks run in order and must not sleep. */
  call(callback: () => void): void {
    const epoch = this.#epoch;
    this.#epoch = { readers: 0 };
    this.#callbacks.queue(async () => {
      await this.#left.wait(() => epoch.readers === 0);
      callback();
    });
  }
}
