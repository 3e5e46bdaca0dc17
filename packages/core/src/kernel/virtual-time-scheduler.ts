/** The default scheduler: first come, first served, in virtual time. */
import type { HardwareUnit } from "./scheduler.js";
import { ThreadScheduler } from "./thread-scheduler.js";

/** The clock moves only when nobody can run: to the next timer. */
export class VirtualTimeScheduler extends ThreadScheduler {
  readonly preemptive = false;

  point(_name: string): Promise<void> | undefined {
    return undefined;
  }

  kick(unit: HardwareUnit): void {
    while (unit.step());
  }

  choose(_count: number, _what: string): number {
    return 0;
  }

  protected dispatch(): void {
    if (this.current !== null) return;
    while (this.wanted) {
      const next = this.ready.shift() ?? this.idlers.shift();
      if (next) {
        this.resume(next);
        return;
      }
      if (!this.passTime()) return;
    }
  }
}
