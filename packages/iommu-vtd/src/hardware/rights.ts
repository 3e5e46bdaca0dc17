/** What a translation permits, as bits: what IOTLB entries hold and permission checks look at. */
import { Access } from "@iommukit/core";
import { LegacyFault, ScalableFault } from "../spec/faults.js";
import { Pgtt } from "../spec/pasid-table.js";
import type { Request } from "./request.js";

export const Right = {
  /** Read, write, execute with user privilege. */
  UR: 1,
  UW: 2,
  UX: 4,
  /** … with supervisor privilege. */
  SR: 8,
  SW: 16,
  SX: 32,
  /** Every first-stage entry on the way had U/S set. */
  USER: 64,
  /** Nothing is left to be marked dirty when the page is written. */
  DIRTY: 128,
  /** Translated requests have to clear No Snoop: bit N of a translation completion. */
  SNOOP: 256,
  /** FPD was set on the way. */
  FPD: 512,
  /** Supervisor requests, execute requests are enabled in the PASID table entry. */
  SRE: 1024,
  ERE: 2048,
  /** Requests without PASID have supervisor privilege here: RID_PRIV. */
  RID_PRIV: 4096,
  /** The page meets the interrupt range, at one end of the translation or the other: each request has to be looked at. */
  NEAR_INTERRUPTS: 8192,
} as const;

/** Set in every request's Access bits, so that a mask of -1 refuses them all and one of 0 permits none. */
export const ANY_ACCESS = 1 << 15;
/** Where, above the Right bits, stands what a user's request needs nothing but the translation for: Access bits, ANY_ACCESS. */
export const ALLOWED_SHIFT = 16;

/** Rights together with that: a page that is not dirty yet has to be marked by a write. */
export function withAllowed(rights: number): number {
  if ((rights & (Right.RID_PRIV | Right.NEAR_INTERRUPTS)) !== 0) return rights;
  const write = (rights & Right.DIRTY) !== 0 ? Access.WRITE : 0;
  return rights | ((ANY_ACCESS | (rights & (Access.READ | write))) << ALLOWED_SHIFT);
}

export const READ = Right.UR | Right.SR;
export const WRITE = Right.UW | Right.SW;
export const EXEC = Right.UX | Right.SX;

/** Access bits of the rights that a privilege has. */
export function permsOf(rights: number, supervisor: boolean): number {
  const own = supervisor ? rights >>> 3 : rights;
  return own & (Access.READ | Access.WRITE | Access.EXEC);
}

/** Rights that the request needs. A zero-length read needs read or, with CAP.ZLR, write permission. */
export function granted(rights: number, request: Request, zeroLengthReads: boolean): boolean {
  const perms = permsOf(rights, request.supervisor);
  const wanted = request.access & (Access.READ | Access.WRITE | Access.EXEC);
  if ((wanted & ~perms) === 0) return true;
  const flush = zeroLengthReads && (request.access & Access.ZERO_LENGTH) !== 0;
  return flush && wanted === Access.READ && (perms & Access.WRITE) !== 0;
}

/** Fault reason of a request that `granted` refuses. */
export function denial(rights: number, request: Request, pgtt: number, scalable: boolean): number {
  const write = (request.access & Access.WRITE) !== 0 && (permsOf(rights, request.supervisor) & Access.WRITE) === 0;
  if (!scalable) return write ? LegacyFault.WRITE_DENIED.code : LegacyFault.READ_DENIED.code;
  const firstStage = pgtt === Pgtt.FIRST_STAGE || pgtt === Pgtt.NESTED;
  if (firstStage && !request.supervisor && (rights & Right.USER) === 0) return ScalableFault.USER_DENIED.code;
  if (write) return ScalableFault.WRITE_DENIED.code;
  const read = (permsOf(rights, request.supervisor) & Access.READ) !== 0;
  return read ? ScalableFault.EXECUTE_DENIED.code : ScalableFault.READ_DENIED.code;
}

/** SPT.5, SPT.6: requests for a privilege or for execution that the PASID table entry does not enable. */
export function disabledRequest(rights: number, request: Request): number {
  if ((request.access & Access.EXEC) !== 0 && (rights & Right.ERE) === 0) return ScalableFault.ERE_CLEAR.code;
  if (request.supervisor && (rights & Right.SRE) === 0) return ScalableFault.SRE_CLEAR.code;
  return 0;
}
