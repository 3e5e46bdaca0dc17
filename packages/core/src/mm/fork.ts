/**
 * dup_mmap: private pages are shared read-only by parent and child until one of them writes; shared mappings are the
 * same memory. A page that is pinned for DMA is copied for the child at once, so that the parent's stays where the
 * device knows it. The caller holds the parent's mmap_lock; of the child only files know, from its first mapping on.
 */
import { isErrno } from "../kernel/errno.js";
import type { AddressSpace } from "./address-space.js";
import { PageFlag } from "./page-table/page-table.js";
import type { Vma } from "./vma.js";

/** @throws IommuError ENOMEM, with the child gone again */
export async function forkAddressSpace(parent: AddressSpace, child: AddressSpace): Promise<AddressSpace> {
  child.inheritBreak(parent);
  try {
    await child.mmapLock.with(() => copyMappings(parent, child));
    return child;
  } catch (error) {
    if (isErrno(error)) await child.mmput();
    throw error;
  }
}

async function copyMappings(parent: AddressSpace, child: AddressSpace): Promise<void> {
  for (const vma of parent.vmaList.all) {
    if (vma.dontFork) continue;
    child.vmaList.insert(vma.clone({ owner: child, locked: false }));
    if (!vma.shared) await sharePages(parent, child, vma);
  }
}

async function sharePages(parent: AddressSpace, child: AddressSpace, vma: Vma): Promise<void> {
  const { frames } = parent.environment;
  const { pages } = parent.mappings;
  const pinned: number[] = [];
  pages.forEach(vma.first, vma.limit, (page, { pa }) => {
    if (frames.isExclusive(pa) && frames.at(pa)?.pins) pinned.push(page);
  });
  for (const page of pinned) await parent.mappings.split(page);
  let from = vma.first;
  for (const page of [...pinned, vma.limit]) {
    if (from < page) await parent.mappings.update(from, page, 0, PageFlag.WRITE);
    from = page + 1;
  }
  const keep = new Set(pinned);
  pages.forEach(vma.first, vma.limit, (page, { pa, flags, hidden }) => {
    // Device memory is found again through the mapping.
    if (!frames.at(pa)) return;
    const copied = keep.has(page);
    const target = copied ? frames.alloc(child.anonymousOwner, "mappings") : pa;
    if (copied) parent.copyPage(pa, target);
    else frames.hold(pa, "mappings");
    child.mappings.pages.set(page, { pa: target, flags: copied ? flags : flags & ~PageFlag.WRITE, hidden });
    if (pages.inBlock(page)) child.mappings.pages.setBlock(page, true);
  });
}
