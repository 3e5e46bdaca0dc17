/** Answers to translation requests (VT-d 4.2.3, table 10, and the translation-request columns of table 30). */
import { Access, type AtsCompletion, AtsStatus, NO_PASID } from "@iommukit/core";
import { FAULT_REASONS, ScalableFault } from "../spec/faults.js";
import type { Capabilities } from "./capabilities.js";
import type { Request } from "./request.js";
import { permsOf, Right } from "./rights.js";

const UR = 1;
const CA = 2;
const EMPTY = 3;
const ANSWER = new Uint8Array(256);
for (const { code, translationRequest } of FAULT_REASONS)
  ANSWER[code] = translationRequest === "UR" ? UR : translationRequest === "CA" ? CA : EMPTY;

/** Faults that are recorded although the completion is a success without permissions. */
const RECORDED_ANYWAY = ScalableFault.FIRST_STAGE_UPDATE_FAILED.code;

/** AtsStatus of a translation request that met a fault. */
export function atsStatus(code: number): number {
  if (ANSWER[code] === UR) return AtsStatus.UR;
  return ANSWER[code] === CA ? AtsStatus.CA : AtsStatus.SUCCESS;
}

/** Whether the fault of a translation request is recorded: recoverable ones are not (7.1.2). */
export function recordedForAts(code: number): boolean {
  return ANSWER[code] !== EMPTY || code === RECORDED_ANYWAY;
}

/** Success with R = W = U = S = 0. */
export function emptyCompletion(request: Request, out: AtsCompletion): void {
  out.hi = 0;
  out.lo = 0;
  out.shift = 12;
  out.read = false;
  out.write = false;
  out.execute = false;
  out.privileged = request.pasid !== NO_PASID && (request.access & Access.PRIV) !== 0;
  out.global = false;
  out.nonSnooped = false;
  out.untranslatedOnly = false;
}

/** S.1 and S.2: an address in the interrupt range, which devices may ask for before they send a message. */
export function interruptCompletion(request: Request, out: AtsCompletion): void {
  emptyCompletion(request, out);
  const writes = (request.access & Access.WRITE) !== 0;
  out.write = writes;
  out.untranslatedOnly = writes;
}

/** @param hi,lo translated address of the request. @param shift log2 of the page */
export function fillCompletion(
  caps: Capabilities,
  request: Request,
  rights: number,
  hi: number,
  lo: number,
  shift: number,
  out: AtsCompletion,
): void {
  emptyCompletion(request, out);
  const perms = permsOf(rights, request.supervisor);
  out.read = (perms & Access.READ) !== 0;
  // A request with NW gets no write permission from units that know the flag.
  out.write = (perms & Access.WRITE) !== 0 && ((request.access & Access.WRITE) !== 0 || !caps.ecap.NWFS);
  out.execute = caps.ecap.ERS && (request.access & Access.EXEC) !== 0 && (perms & Access.EXEC) !== 0;
  if (!out.read && !out.write) return;
  out.nonSnooped = (rights & Right.SNOOP) !== 0;
  out.shift = shift;
  out.hi = hi;
  out.lo = lo & (-1 << shift);
}
