/** Lets a platform's clock keep pace with the real one while programs use it. */
import type { Platform } from "@iommukit/core";

/** What is due within this time happens at once: an interrupt's latency is not worth a timer of the host's. */
const SOON = 100_000;
/** Steps of that kind in a row, for a device that sets one timer after the other. */
const STEPS = 1000;

export class RealTime {
  readonly #started = process.hrtime.bigint();
  #offset: number;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(
    private readonly platform: Platform,
    private readonly failed: (error: unknown) => void,
  ) {
    this.#offset = platform.scheduler.now;
  }

  /** Runs `body` as a thread when the clock has caught up, and what it has set off after it. */
  async run<T>(body: () => Promise<T>, name: string): Promise<T> {
    const { scheduler } = this.platform;
    const result = await this.platform.run(async () => {
      const behind = this.#now() - scheduler.now;
      if (behind > 0) await scheduler.sleep(behind);
      const value = await body();
      await this.#settle();
      return value;
    }, name);
    // What somebody in the machine slept through is over: its clock may be ahead, and the real one starts from there.
    this.#offset += Math.max(0, scheduler.now - this.#now());
    this.#arm();
    return result;
  }

  /** The clock goes on by as much at once, and all that was due by then happens. */
  async skip(nanoseconds: number): Promise<void> {
    this.#offset += nanoseconds;
    await this.run(async () => {}, "skip");
  }

  #now(): number {
    return this.#offset + Number(process.hrtime.bigint() - this.#started);
  }

  async #settle(): Promise<void> {
    const { scheduler } = this.platform;
    await scheduler.idle();
    for (let step = 0; step < STEPS; step++) {
      const next = scheduler.nextTimer;
      if (next === undefined || next - scheduler.now > SOON) return;
      await scheduler.sleep(next - scheduler.now);
      await scheduler.idle();
    }
  }

  /** Wakes up for the next timer that somebody in the machine has set. */
  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.platform.scheduler.nextTimer;
    if (next === undefined || this.#stopped) return;
    const wait = Math.max(0, Math.ceil((next - this.#now()) / 1e6));
    this.#timer = setTimeout(() => {
      this.run(async () => {}, "clock").catch(this.failed);
    }, wait);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }
}
