/** What VT-d's tables permit, and the fault reason of a request that they refuse (VT-d 3.6.1, 3.7.1, table 30). */
import { type FaultReason, PASID_ENTRY, ScalableFault } from "@iommukit/iommu-vtd";
import { type Walker, type WalkRequest, writes } from "./step.js";
import type { Page } from "./vtd-stages.js";
import { stop } from "./vtd-stop.js";

export interface Rights {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
}

/** First-stage permissions over all levels so far. */
export interface FirstStagePermissions {
  readonly user: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
}

/** Of a privilege that the record does not say, the rights of both. */
export function firstStageRights(
  entry: Int32Array,
  { user, writable, executable }: FirstStagePermissions,
  privileged: boolean | undefined,
): Rights {
  const smep = PASID_ENTRY.SMEP.get(entry) === 1 && user;
  const asUser = { read: user, write: user && writable, execute: user && executable };
  const asSupervisor = {
    read: true,
    write: writable || PASID_ENTRY.WPE.get(entry) === 0,
    execute: executable && !smep,
  };
  if (privileged === true) return asSupervisor;
  if (privileged === false || PASID_ENTRY.SRE.get(entry) === 0) return asUser;
  return {
    read: true,
    write: asUser.write || asSupervisor.write,
    execute: asUser.execute || asSupervisor.execute,
  };
}

export function both(a: Rights, b: Rights): Rights {
  return { read: a.read && b.read, write: a.write && b.write, execute: a.execute && b.execute };
}

/** An atomic access reads and writes; code is read as well as executed. */
export function grants(rights: Rights, request: WalkRequest): boolean {
  const reads = request.access !== "write";
  return (
    (rights.read || !reads) && (rights.write || !writes(request)) && (rights.execute || request.access !== "execute")
  );
}

/** Stops at a right that is missing. @param lack legacy mode's reason, which has one for all */
export function refuse(
  walker: Walker,
  { rights, user, deniedAt }: Page,
  request: WalkRequest,
  lack?: FaultReason,
): void {
  const who = deniedAt === undefined ? "the tables do" : `level ${deniedAt} entry does`;
  if (user === false && request.privileged === false)
    stop(walker, "US = 0: not for user requests", ScalableFault.USER_DENIED);
  if (writes(request) && !rights.write)
    stop(walker, `${who} not allow the ${request.access}`, lack ?? ScalableFault.WRITE_DENIED);
  if (request.access !== "write" && !rights.read)
    stop(walker, `${who} not allow the ${request.access ?? "read"}`, lack ?? ScalableFault.READ_DENIED);
  if (request.access === "execute" && !rights.execute)
    stop(walker, "the tables do not allow execution", ScalableFault.EXECUTE_DENIED);
}
