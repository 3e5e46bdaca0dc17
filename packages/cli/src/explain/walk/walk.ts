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
  const access = facts.access === "write" || facts.access === "read" ? facts.access : undefined;
  if (iommu === "vtd" && rtaddr !== undefined) return walkVtd(memory, rtaddr, { rid: sid, pasid, address, access });
  if (iommu === "smmuv3" && strtab !== undefined)
    return walkSmmu(memory, strtab.base, strtab.config, { sid, ssid: pasid, address, access });
  return undefined;
}
