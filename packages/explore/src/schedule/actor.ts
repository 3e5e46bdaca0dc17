/** Whatever can take the next step: a thread, or a unit of hardware that has work. */
import { type HardwareUnit, Thread } from "@iommukit/core";

export class UnitActor {
  constructor(readonly unit: HardwareUnit) {}

  get name(): string {
    return this.unit.name;
  }
}

export type Actor = Thread | UnitActor;

export function isThread(actor: Actor): actor is Thread {
  return actor instanceof Thread;
}
