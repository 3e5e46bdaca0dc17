/** Groups come to and leave a container (F21–F23, F35). */
import { type Device, hex, type IommuDomain, IommuError, type IommuGroup, isErrno } from "@iommukit/core";
import { disableGroup, forget, replayBind } from "./bind-group.js";
import { refuseDirect } from "./direct-mapping.js";
import { markAllDirty } from "./dirty-bitmap.js";
import { stop } from "./dirty-pages.js";
import { removeRun } from "./dma-unmap.js";
import { allocDomain, protFor, VfioDomain, VfioIommuGroup } from "./domain.js";
import { tryAttachGroup } from "./domain-match.js";
import { takenAway } from "./iova-ranges.js";
import { unmapDoorbells } from "./msi-cookie.js";
import { mapRuns, pinAndMap, unmapAndUnpin, unmapAnyway } from "./pinning.js";
import { invalid } from "./range-checks.js";
import type { VfioIommu } from "./vfio-iommu.js";

/**
 * Attaches a group to a domain of its own, then moves it to the first compatible one; a new domain gets every mapping and
 * every bound process. All or nothing.
 * @throws IommuError EBUSY a vaddr is invalid; EINVAL attached already, nesting, or existing mappings are in the way;
 *   EPERM interrupts cannot be isolated; what the drivers refuse with
 */
export async function attachGroup(iommu: VfioIommu, iommuGroup: IommuGroup): Promise<void> {
  await iommu.lock.with(async () => {
    checkNewcomer(iommu, iommuGroup);
    const group = new VfioIommuGroup(iommuGroup);
    refuseDirect("attach", group.devices, iommu.env);
    const domain = allocDomain(group);
    try {
      if (iommu.nesting) enableNesting(iommu, domain);
      await iommu.env.groups.attachGroup(domain, iommuGroup);
    } catch (error) {
      domain.ops.domainFree(domain);
      throw error;
    }
    await settle(iommu, group, new VfioDomain(domain, protFor(group), enforceCoherency(iommu, domain)));
    iommu.refresh();
  });
}

/**
 * A group of an emulated device: no domain, no DMA; what its driver pins is all that it needs (F26). Through a parent's PASIDs
 * it reaches what the container is bound to.
 * @throws IommuError EBUSY, EINVAL; what the parent's driver refuses to bind
 */
export async function attachEmulatedGroup(iommu: VfioIommu, iommuGroup: IommuGroup, parent?: Device): Promise<void> {
  await iommu.lock.with(async () => {
    checkNewcomer(iommu, iommuGroup);
    const group = new VfioIommuGroup(iommuGroup, parent);
    if (parent) await replayBind(iommu, group);
    iommu.emulatedGroups.set(iommuGroup, group);
  });
}

function checkNewcomer(iommu: VfioIommu, iommuGroup: IommuGroup): void {
  if (iommu.vaddrInvalid > 0)
    throw new IommuError("EBUSY", `${iommu.vaddrInvalid} mappings wait for a new vaddr; their memory cannot be pinned`);
  if (iommu.findGroup(iommuGroup) || iommu.emulatedGroups.has(iommuGroup))
    throw invalid(`group ${iommuGroup.id} is in the container already`);
}

/** iommu_enable_nesting: the container's addresses are a guest's, translated at stage 2. @throws IommuError */
function enableNesting({ profile: { nesting } }: VfioIommu, domain: IommuDomain): void {
  const { ops } = domain;
  if (!ops.enableNesting) throw invalid(`${ops.name} knows no nesting`);
  if (nesting === "late") throw new IommuError("EPERM", `${ops.name}: domain ${domain.id} belongs to a unit already`);
  try {
    ops.enableNesting(domain);
  } catch (error) {
    if (nesting !== "hint" || !isErrno(error, "EOPNOTSUPP")) throw error;
  }
}

/** The group is attached to `mine`; finds where it stays, or takes it off again. */
async function settle(iommu: VfioIommu, group: VfioIommuGroup, mine: VfioDomain): Promise<void> {
  try {
    checkRegions(iommu, group, mine);
    if (!iommu.env.params.allowUnsafeInterrupts && !group.isolatedMsi) {
      iommu.env.printk(
        'vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param "allow_unsafe_interrupts" to enable VFIO IOMMU support on this platform',
      );
      throw new IommuError("EPERM", `group ${group.iommuGroup.id}: the platform cannot isolate its interrupts`);
    }
    for (const existing of iommu.domains) {
      if (!(await tryAttachGroup(iommu, group, mine, existing))) continue;
      existing.groups.unshift(group);
      mine.domain.ops.domainFree(mine.domain);
      return;
    }
    await replay(iommu, group, mine);
  } catch (error) {
    await iommu.env.groups.detachGroup(mine.domain, group.iommuGroup);
    mine.domain.ops.domainFree(mine.domain);
    throw error;
  }
  mine.groups.unshift(group);
  iommu.domains.unshift(mine);
}

function enforceCoherency(iommu: VfioIommu, domain: VfioDomain["domain"]): boolean {
  return iommu.profile.domainMatch.includes("enforced-coherency") && domain.ops.enforceCacheCoherency(domain);
}

/** Mappings that stand where the new group cannot go keep it out, and it must leave some IOVAs. @throws IommuError EINVAL */
function checkRegions(iommu: VfioIommu, group: VfioIommuGroup, mine: VfioDomain): void {
  for (const { why, start, size } of takenAway(iommu.ranges, mine.domain.aperture, group.reserved)) {
    const dma = iommu.dmas.find(start, size);
    if (dma)
      throw invalid(`the mapping at ${hex(dma.iova)} is outside of what group ${group.iommuGroup.id} allows (${why})`);
  }
  // vfio_iommu_aper_conflict for apertures that have nothing in common, vfio_iommu_resv_exclude for the rest.
  if (iommu.rangesWith([mine.domain.aperture], group.reserved).length === 0)
    throw invalid(`no IOVA suits group ${group.iommuGroup.id} and the groups that are in the container`);
}

/** vfio_iommu_replay and replay_bind on a domain that is new to the container. */
async function replay(iommu: VfioIommu, group: VfioIommuGroup, mine: VfioDomain): Promise<void> {
  const undo: (() => Promise<unknown>)[] = [];
  const options = { ...iommu.env.params, zeroPageUncharged: iommu.profile.zeroPageUncharged, log: iommu.env };
  try {
    for (const dma of iommu.dmas.all()) {
      if (dma.mapped) {
        await mapRuns(dma, mine, options);
        undo.push(() => unmapAnyway(iommu.env, mine, dma.iova, dma.size));
      } else {
        // The container's first domain: until now nothing but what drivers of emulated devices asked for was pinned.
        await pinAndMap(dma, dma.size, [mine], options);
        undo.push(() => unmapAndUnpin(iommu.env, dma, [mine]));
      }
    }
    await replayBind(iommu, group);
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

/** The last group takes everything with it: mappings, bound processes, dirty tracking. */
export async function detachGroup(iommu: VfioIommu, iommuGroup: IommuGroup): Promise<void> {
  await iommu.lock.with(async () => {
    if (iommu.emulatedGroups.has(iommuGroup)) return detachEmulated(iommu, iommuGroup);
    const found = iommu.findGroup(iommuGroup);
    if (!found) return;
    // What it wrote, nobody could see: it counts as dirty for whoever asks later (V-5).
    if (iommu.dirtyTracking) for (const dma of iommu.dmas.all()) markAllDirty(dma, iommu.pgsize);
    const { domain, group } = found;
    // Bonds first, while the group is still in the domain in which they were made; detaching would remove them as well.
    await disableGroup(iommu, group);
    await iommu.env.groups.detachGroup(domain.domain, iommuGroup);
    domain.groups.splice(domain.groups.indexOf(group), 1);
    if (domain.groups.length === 0) await dropDomain(iommu, domain);
    iommu.refresh();
  });
}

async function detachEmulated(iommu: VfioIommu, iommuGroup: IommuGroup): Promise<void> {
  const group = iommu.emulatedGroups.get(iommuGroup);
  if (group) await disableGroup(iommu, group);
  iommu.emulatedGroups.delete(iommuGroup);
  await dropUnused(iommu);
  await forgetUnreachable(iommu);
}

async function dropDomain(iommu: VfioIommu, domain: VfioDomain): Promise<void> {
  if (iommu.domains.length === 1) {
    await dropUnused(iommu, domain);
    await forgetUnreachable(iommu);
  } else {
    for (const { iova, size } of iommu.dmas.all()) await unmapAnyway(iommu.env, domain, iova, size);
  }
  iommu.domains.splice(iommu.domains.indexOf(domain), 1);
  await unmapDoorbells(iommu.env, domain);
  domain.domain.ops.domainFree(domain.domain);
}

/**
 * The last group has gone, or the last domain: with no group left every mapping goes, and when only emulated devices are
 * left, what their drivers have not pinned is unpinned (vfio_iommu_unmap_unpin_reaccount, F20).
 */
async function dropUnused(iommu: VfioIommu, last?: VfioDomain): Promise<void> {
  if (iommu.emulatedGroups.size > 0) {
    if (last) for (const dma of iommu.dmas.all()) await unmapAndUnpin(iommu.env, dma, [last]);
  } else if (last || iommu.domains.length === 0) {
    await removeAll(iommu);
  }
}

function removeAll(iommu: VfioIommu): Promise<void> {
  return removeRun(iommu, iommu.dmas.all());
}

/** With the last group that processes could be bound to. */
async function forgetUnreachable(iommu: VfioIommu): Promise<void> {
  if (iommu.svaGroups().next().done) await forgetAll(iommu);
}

/** vfio_iommu_free_all_mm: their bonds went with the groups. */
async function forgetAll(iommu: VfioIommu): Promise<void> {
  await iommu.mmLock.with(() => {
    for (const vfioMm of [...iommu.mms]) forget(iommu, vfioMm);
  });
}

/** vfio_iommu_type1_release. */
export async function releaseIommu(iommu: VfioIommu): Promise<void> {
  await iommu.lock.with(async () => {
    await forgetAll(iommu);
    await removeAll(iommu);
    stop(iommu);
  });
}
