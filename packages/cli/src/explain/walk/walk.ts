/** Which walk a record calls for, when memory and the tables' start are known. */
import type { ExplainRecord } from "../record.js";
import type { MemoryReader } from "./memory-image.js";
import { walkSmmu } from "./smmu-walk.js";
import type { Walk } from "./step.js";
import { walkVtd } from "./vtd-walk.js";

export interface Roots {
  readonly memory: MemoryReader;
  readonly rtaddr: bigint | undefined;
  readonly strtab: { readonly base: bigint; readonly config: number } | undefined;
}

export function walkFor({ facts }: ExplainRecord, { memory, rtaddr, strtab }: Roots): Walk | undefined {
  const { iommu, address, sid, pasid, interrupt } = facts;
  if (address === undefined || sid === undefined || interrupt) return undefined;
  const { access, privileged } = facts;
  const request = { address, access, privileged };
  if (iommu === "vtd" && rtaddr !== undefined) return walkVtd(memory, rtaddr, { ...request, rid: sid, pasid });
  if (iommu === "smmuv3" && strtab !== undefined)
    return walkSmmu(memory, strtab.base, strtab.config, { ...request, sid, ssid: pasid });
  return undefined;
}
