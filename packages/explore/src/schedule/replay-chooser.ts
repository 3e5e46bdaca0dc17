/** Takes the choices of a schedule, and possibility 0 everywhere else. */
import type { Chooser } from "./chooser.js";
import type { Schedule } from "./schedule.js";

/** For one schedule, again. */
export class ReplayChooser implements Chooser {
  constructor(private readonly schedule: Schedule) {}

  next(_actors: readonly unknown[], at: number): number {
    return this.schedule.get(at) ?? 0;
  }

  value(_count: number, at: number): number {
    return this.schedule.get(at) ?? 0;
  }
}
