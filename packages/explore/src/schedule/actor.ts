/** Whatever can take the next step: a thread, or a unit of hardware that has work. */
import { type HardwareUnit, Thread } from "@iommukit/core";

/** A unit of hardware in the scheduler's queue. */
export class UnitActor {
  constructor(readonly unit: HardwareUnit) {}

  get name(): string {
    return this.unit.name;
  }
}

/** Who can be chosen to go on. */
export type Actor = Thread | UnitActor;

/** Or else a unit of hardware. */
export function isThread(actor: Actor): actor is Thread {
  return actor instanceof Thread;
}
