/**
 * vfio_iommu_try_attach_group of patch 13/40: may this group share a domain that the container has? Domains are compatible
 * when they come from the same driver (`ops ===`) and make the same kind of mapping (`prot`). Then the group moves there,
 * and what is bound to the container is bound to it; else it stays on its own domain, as if nothing had been tried.
 */
import { IommuError } from "@iommukit/core";
import { replayBind } from "./bind-group.js";
import { incompatibility, type VfioDomain, type VfioIommuGroup } from "./domain.js";
import type { VfioIommu } from "./vfio-iommu.js";

/**
 * @param mine where the group is attached now
 * @returns whether it has moved to `existing`
 * @throws IommuError when it could not even go back: it is in no domain of the container then
 */
export async function tryAttachGroup(
  iommu: VfioIommu,
  group: VfioIommuGroup,
  mine: VfioDomain,
  existing: VfioDomain,
): Promise<boolean> {
  const reason = incompatibility(iommu.profile, mine, existing);
  report(iommu, group, existing, reason === undefined, reason ?? compatibleBecause(existing));
  if (reason !== undefined) return false;
  const { groups } = iommu.env;
  await groups.detachGroup(mine.domain, group.iommuGroup);
  try {
    await groups.attachGroup(existing.domain, group.iommuGroup);
    await replayBind(iommu, group);
    return true;
  } catch (error) {
    report(iommu, group, existing, false, (error as Error).message);
    await groups.detachGroup(existing.domain, group.iommuGroup);
    await reattach(iommu, group, mine);
    return false;
  }
}

async function reattach(iommu: VfioIommu, group: VfioIommuGroup, mine: VfioDomain): Promise<void> {
  try {
    await iommu.env.groups.attachGroup(mine.domain, group.iommuGroup);
  } catch (error) {
    if (iommu.has("S-6")) throw new IommuError("EINVAL", "the group could not be attached again", { cause: error });
    throw error;
  }
}

function compatibleBecause({ domain, prot }: VfioDomain): string {
  return `same ops (${domain.ops.name}), same prot (${prot})`;
}

function report(
  { env: { trace } }: VfioIommu,
  group: VfioIommuGroup,
  existing: VfioDomain,
  compatible: boolean,
  reason: string,
): void {
  if (trace.enabled)
    trace.emit("domain:compared", {
      group: group.iommuGroup.id,
      domain: existing.domain.id,
      compatible,
      reason,
    });
}
