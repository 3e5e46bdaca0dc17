/**
 * The flush queue of lazy mode (drivers/iommu/dma-iommu.c): unmaps gather in a ring and are completed together by one
 * invalidation of the whole domain, when the ring is full or 10 ms after the first. Until then a device may still use them
 * (L-28). One ring per CPU; one timer for all.
 */
import { after, type MaySleep } from "../kernel/may-sleep.js";
import type { Scheduler, Timer } from "../kernel/scheduler.js";

/** Sizes and times of lazy mode. */
export interface FlushQueueOptions {
  /** IOVA_DEFAULT_FQ_SIZE: entries of a ring; one of them stays empty. */
  readonly size?: number;
  /** IOVA_DEFAULT_FQ_TIMEOUT in nanoseconds. */
  readonly timeout?: number;
  readonly cpus?: number;
  /** The CPU that runs now, 0 to cpus - 1: each has a ring of its own. Always 0 when absent. */
  readonly cpu?: () => number;
}

interface Entry {
  /** Flushes that had ended when it was queued: a later one has covered it. */
  readonly counter: number;
  readonly release: () => void;
}

/** One domain's flush queue. */
export class FlushQueue {
  readonly #rings: Entry[][];
  readonly #size: number;
  readonly #timeout: number;
  readonly #cpu: () => number;
  #started = 0;
  #finished = 0;
  #timer: Timer | undefined;

  /** @param flush invalidates everything of the domain */
  constructor(
    private readonly scheduler: Scheduler,
    private readonly flush: () => MaySleep,
    options: FlushQueueOptions = {},
  ) {
    this.#size = options.size ?? 256;
    this.#timeout = options.timeout ?? 10_000_000;
    this.#cpu = options.cpu ?? (() => 0);
    this.#rings = Array.from({ length: options.cpus ?? 1 }, () => []);
  }

  /** Unmaps that no invalidation has covered yet. */
  get pending(): number {
    return this.#rings.reduce((sum, ring) => sum + ring.length, 0);
  }

  /** @param release runs when nothing caches the mapping any more: its IOVA and its tables may be used again */
  queue(release: () => void): MaySleep {
    const ring = this.#rings[this.#cpu()];
    this.#reclaim(ring);
    if (ring.length < this.#size - 1) return this.#push(ring, release);
    return after(this.#flush(), () => {
      this.#reclaim(ring);
      this.#push(ring, release);
    });
  }

  #push(ring: Entry[], release: () => void): undefined {
    ring.push({ counter: this.#started, release });
    this.#timer ??= this.scheduler.timer(this.#timeout, () => {
      this.#timer = undefined;
      this.scheduler.spawn("fq_flush_timeout", () => this.drain());
    });
  }

  /** Completes every unmap that is queued now. */
  async drain(): Promise<void> {
    await this.#flush();
    for (const ring of this.#rings) this.#reclaim(ring);
  }

  /** Ends lazy mode. The domain is on no device any more, so nothing caches what was unmapped. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const ring of this.#rings) for (const { release } of ring.splice(0)) release();
  }

  #flush(): MaySleep {
    const started = ++this.#started;
    return after(this.flush(), () => {
      this.#finished = Math.max(this.#finished, started);
    });
  }

  /** Takes out what a flush that began after the unmap has covered. */
  #reclaim(ring: Entry[]): void {
    let covered = 0;
    while (covered < ring.length && ring[covered].counter < this.#finished) covered++;
    if (covered === 0) return;
    for (const { release } of ring.splice(0, covered)) release();
  }
}
