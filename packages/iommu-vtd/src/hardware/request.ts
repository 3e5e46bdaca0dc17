/** The request that the unit works on: one object, filled per request and read by every part that it passes. */
import { Access, NO_PASID } from "@iommukit/core";

/** PCIe address type, as FRCD.AT shows it. */
export const AddressType = { UNTRANSLATED: 0, TRANSLATION_REQUEST: 1, TRANSLATED: 2, PAGE_REQUEST: 3 } as const;

/** FEEx_xxxxh. */
export function inInterruptRange(hi: number, lo: number): boolean {
  return hi === 0 && lo >>> 20 === 0xfee;
}

/** Whether a page of 2^shift bytes has addresses in it. */
export function meetsInterruptRange(hi: number, lo: number, shift: number): boolean {
  return hi === 0 && (0xfee0_0000 ^ lo) >>> Math.max(shift, 20) === 0;
}

export class Request {
  rid = 0;
  /** As the device sent it; NO_PASID for none. */
  pasid = NO_PASID;
  hi = 0;
  lo = 0;
  access = 0;
  type = 0;
  /** The PASID whose tables are used: the request's own or RID_PASID. */
  effectivePasid = 0;
  /** Supervisor privilege: the request's own or RID_PRIV. */
  supervisor = false;
  /** An entry on the way had FPD set: qualified faults are not recorded. */
  faultsDisabled = false;

  start(rid: number, pasid: number, hi: number, lo: number, access: number, type: number): void {
    this.rid = rid;
    this.pasid = pasid;
    this.hi = hi;
    this.lo = lo;
    // Without PASID a request cannot ask for execution (9.4): it reads.
    this.access = pasid === NO_PASID && (access & Access.EXEC) !== 0 ? (access & ~Access.EXEC) | Access.READ : access;
    this.type = type;
    this.effectivePasid = pasid;
    this.supervisor = pasid !== NO_PASID && (access & Access.PRIV) !== 0;
    this.faultsDisabled = false;
  }

  get inInterruptRange(): boolean {
    return inInterruptRange(this.hi, this.lo);
  }
}
