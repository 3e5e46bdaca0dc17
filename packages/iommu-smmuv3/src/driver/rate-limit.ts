/** ___ratelimit of lib/ratelimit.c: at most `burst` lines in `interval`, and a line that says how many there would have been. */
import type { Kernel } from "@iommukit/core";

/** DEFAULT_RATELIMIT_INTERVAL and _BURST. */
const INTERVAL = 5_000_000_000;
const BURST = 10;

export class RateLimit {
  #begin: number | undefined;
  #printed = 0;
  #missed = 0;

  /** @param caller the kernel's function that prints: "arm_smmu_evtq_thread" */
  constructor(
    private readonly kernel: Kernel,
    private readonly caller: string,
  ) {}

  /** True when one more may be printed now. */
  allows(): boolean {
    const { now } = this.kernel.scheduler;
    this.#begin ??= now;
    if (now > this.#begin + INTERVAL) {
      if (this.#missed > 0) this.kernel.printk(`${this.caller}: ${this.#missed} callbacks suppressed`);
      this.#begin = now;
      this.#printed = 0;
      this.#missed = 0;
    }
    if (this.#printed < BURST) {
      this.#printed++;
      return true;
    }
    this.#missed++;
    return false;
  }
}
