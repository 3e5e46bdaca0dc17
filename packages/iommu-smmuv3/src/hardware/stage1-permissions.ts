/** What the descriptors of stage 1 permit (Arm ARM D8.4). */
import * as bits from "./descriptor-bits.js";
import { PERM } from "./tlb-entry.js";

const { UR, UW, UX, PR, PW, PX } = PERM;
const { APTABLE_NO_EL0_HI, APTABLE_READ_ONLY_HI, AP_EL0, AP_READ_ONLY, PXNTABLE_HI, PXN_HI, UXNTABLE_HI, UXN_HI } =
  bits;

/** What permissions depend on besides descriptors. */
export interface PermissionControls {
  /** Only privileged accesses exist. */
  readonly single: boolean;
  readonly wxn: boolean;
  readonly pan: boolean;
}

/** A privileged data access to a page that unprivileged data accesses may use, while PAN is set. */
export function panForbids(context: PermissionControls, need: number, perms: number): boolean {
  return context.pan && (need & (PR | PW)) !== 0 && (perms & (UR | UW)) !== 0;
}

/** Direct permissions with the hierarchy above them. */
export function stage1Perms(dLo: number, dHi: number, hierarchy: number, context: PermissionControls): number {
  const writable = (dLo & AP_READ_ONLY) === 0 && (hierarchy & APTABLE_READ_ONLY_HI) === 0;
  const executable = (dHi & UXN_HI) === 0 && (hierarchy & UXNTABLE_HI) === 0;
  if (context.single) {
    // One privilege level: AP[1] and PXN do not exist, bit 54 is XN.
    let all = PR | UR;
    if (writable) all |= PW | UW;
    if (executable && !(context.wxn && writable)) all |= PX | UX;
    return all;
  }
  const el0 = (dLo & AP_EL0) !== 0 && (hierarchy & APTABLE_NO_EL0_HI) === 0;
  const pxn = (dHi & PXN_HI) !== 0 || (hierarchy & PXNTABLE_HI) !== 0;
  let perms = PR;
  if (writable) perms |= PW;
  if (el0) perms |= UR;
  if (el0 && writable) perms |= UW;
  if (executable && !(context.wxn && el0 && writable)) perms |= UX;
  // What EL0 may write is never executed at EL1.
  if (!pxn && !(el0 && writable) && !(context.wxn && writable)) perms |= PX;
  return perms;
}

/**
 * PERM bits of everything that a descriptor and its hierarchy can say. Bits of the index, from 0 up: AP[2:1]; PXN and
 * UXN; PXNTable, UXNTable and APTable.
 */
export function permsTable(context: PermissionControls): Uint8Array {
  const { AP_SHIFT, HIERARCHICAL_HI_SHIFT, PXN_HI_SHIFT } = bits;
  return Uint8Array.from({ length: 256 }, (_, index) => {
    const hierarchy = (index >>> 4) << HIERARCHICAL_HI_SHIFT;
    return stage1Perms((index & 3) << AP_SHIFT, ((index >>> 2) & 3) << PXN_HI_SHIFT, hierarchy, context);
  });
}
