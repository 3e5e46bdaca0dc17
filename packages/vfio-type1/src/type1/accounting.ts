/** vfio_lock_acct: pinned pages against RLIMIT_MEMLOCK (F12, F20). mlock and VFIO share the counter; a page mapped twice is charged twice. */
import { IommuError, PAGE_SIZE } from "@iommukit/core";
import type { DmaOwner } from "./dma.js";

export function memlockPages(owner: DmaOwner): number {
  return Math.floor(owner.task.limits.memlock / PAGE_SIZE);
}

/** @throws IommuError ENOMEM when the limit would be exceeded; nothing is charged then */
export function charge(owner: DmaOwner, pages: number): void {
  if (pages === 0) return;
  const limit = memlockPages(owner);
  if (!owner.lockCap && owner.mm.lockedVm + pages > limit)
    throw new IommuError(
      "ENOMEM",
      `${owner.mm.owner} has ${owner.mm.lockedVm} pages locked; ${pages} more exceed RLIMIT_MEMLOCK (${limit} pages)`,
    );
  owner.mm.lockedVm += pages;
}

export function uncharge(owner: DmaOwner, pages: number): void {
  owner.mm.lockedVm -= pages;
}
