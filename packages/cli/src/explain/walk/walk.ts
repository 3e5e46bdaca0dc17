/** Which walk a record calls for, when memory and the tables' start are known. */
import type { ExplainRecord } from "../record.js";
import type { DebugfsDump } from "./debugfs-dump.js";
import type { MemoryReader } from "./memory-image.js";
import { walkSmmu } from "./smmu-walk.js";
import type { Walk } from "./step.js";
import { walkVtd } from "./vtd-walk.js";

export interface Roots {
  readonly memory: MemoryReader;
  /** Tables as Linux prints them: of the devices that are in it, before everything else. */
  readonly dump?: DebugfsDump | undefined;
  readonly rtaddr: bigint | undefined;
  readonly strtab: { readonly base: bigint; readonly config: number } | undefined;
}

export function walkFor({ facts }: ExplainRecord, { memory, dump, rtaddr, strtab }: Roots): Walk | undefined {
  const { iommu, address, sid, pasid, interrupt } = facts;
  if (address === undefined || sid === undefined || interrupt) return undefined;
  const { access, privileged } = facts;
  const request = { address, access, privileged };
  const printed = iommu === "vtd" ? dump?.rtaddrOf(sid) : undefined;
  if (dump !== undefined && printed !== undefined) {
    const pasidEntry = (number: number) => dump.pasidEntry(sid, number);
    return walkVtd(dump, printed, { ...request, rid: sid, pasid, pasidEntry });
  }
  if (iommu === "vtd" && rtaddr !== undefined) return walkVtd(memory, rtaddr, { ...request, rid: sid, pasid });
  if (iommu === "smmuv3" && strtab !== undefined)
    return walkSmmu(memory, strtab.base, strtab.config, { ...request, sid, ssid: pasid });
  return undefined;
}
