/**
 * What a lookup or a walk found wrong. The event number is the function's return value (0 is success); the rest of the
 * record is here, in one object per chip that every step reuses.
 */
import { EVENT, EVENT_CLASS } from "../spec/events.js";
import { PERM } from "./tlb-entry.js";

const WRITE = PERM.UW | PERM.PW;

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
  /** 1 when an access that reads and writes could have written: its permission fault is recorded as a read's (13.1.1). */
  readDenied = 0;

  stage1(event: number): number {
    this.s2 = 0;
    this.cls = EVENT_CLASS.IN;
    this.ipaHi = 0;
    this.ipaLo = 0;
    this.ttRnW = 1;
    this.readDenied = 0;
    return event;
  }

  stage2(event: number, cls: number, ipaHi: number, ipaLo: number): number {
    this.s2 = 1;
    this.cls = cls;
    this.ipaHi = ipaHi;
    this.ipaLo = ipaLo;
    this.ttRnW = 1;
    this.readDenied = 0;
    return event;
  }

  /** Stage 2 does not permit `need`, but `perms`. Stage 1 never permits writing without reading. */
  stage2Permission(cls: number, ipaHi: number, ipaLo: number, need: number, perms: number): number {
    this.stage2(EVENT.F_PERMISSION, cls, ipaHi, ipaLo);
    this.readDenied = (need & WRITE) !== 0 && (need & WRITE & ~perms) === 0 ? 1 : 0;
    return EVENT.F_PERMISSION;
  }

  fetch(event: number, hi: number, lo: number): number {
    this.fetchHi = hi;
    this.fetchLo = lo;
    return event;
  }
}
