/**
 * What a lookup or a walk found wrong. The event number is the function's return value (0 is success); the rest of the
 * record is here, in one object per chip that every step reuses.
 */
import { EVENT_CLASS } from "../spec/events.js";

export class Fault {
  /** 1 when the fault is stage 2's. */
  s2 = 0;
  /** EVENT_CLASS */
  cls: number = EVENT_CLASS.IN;
  /** Intermediate physical address of a stage 2 fault. */
  ipaHi = 0;
  ipaLo = 0;
  /** Physical address of a fetch that aborted. */
  fetchHi = 0;
  fetchLo = 0;
  /** 0 when a stage 2 fault of class TT was found by a write to the stage 1 descriptor. */
  ttRnW = 1;

  stage1(event: number): number {
    this.s2 = 0;
    this.cls = EVENT_CLASS.IN;
    this.ipaHi = 0;
    this.ipaLo = 0;
    this.ttRnW = 1;
    return event;
  }

  stage2(event: number, cls: number, ipaHi: number, ipaLo: number): number {
    this.s2 = 1;
    this.cls = cls;
    this.ipaHi = ipaHi;
    this.ipaLo = ipaLo;
    this.ttRnW = 1;
    return event;
  }

  fetch(event: number, hi: number, lo: number): number {
    this.fetchHi = hi;
    this.fetchLo = lo;
    return event;
  }
}
