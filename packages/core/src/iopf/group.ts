/** A page request group that is complete: what is handled in order and answered once (E2–E5). */
import type { IopfFault } from "./fault.js";

export class IopfGroup {
  /** Nothing may be sent any more: the answer is out, or the device is gone. */
  answered = false;

  /** @param faults in the order in which the device asked; the last one closed the group */
  constructor(readonly faults: readonly IopfFault[]) {}

  get last(): IopfFault {
    return this.faults[this.faults.length - 1];
  }
}
