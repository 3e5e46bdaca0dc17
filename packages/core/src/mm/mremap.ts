/** mremap(2): shrink, grow in place, or move. The caller holds the mmap_lock. */
import { IommuError } from "../kernel/errno.js";
import { PAGE_SIZE } from "../memory/address.js";
import type { AddressSpace } from "./address-space.js";
import { freePages } from "./mmap.js";
import { addressOf } from "./page-number.js";

/** MREMAP_MAYMOVE, MREMAP_FIXED. */
export interface MremapOptions {
  /** MREMAP_MAYMOVE; true when absent. */
  readonly mayMove?: boolean;
  /** MREMAP_FIXED: the new place; what is there goes. */
  readonly to?: bigint;
}

export async function mremap(
  space: AddressSpace,
  address: bigint,
  oldLength: number,
  newLength: number,
  { mayMove = true, to }: MremapOptions,
): Promise<bigint> {
  const [first, limit] = space.range(address, oldLength);
  const pages = space.range(address, newLength)[1] - first;
  const vma = space.vmaList.find(first);
  if (!vma || vma.limit < limit) {
    throw new IommuError("EFAULT", `0x${address.toString(16)}+0x${oldLength.toString(16)} is not part of one mapping`);
  }
  const target = to === undefined ? undefined : space.range(to, newLength)[0];
  if (target !== undefined && (!mayMove || (target < limit && first < target + pages))) {
    throw new IommuError("EINVAL", `cannot move 0x${address.toString(16)} to 0x${addressOf(target).toString(16)}`);
  }
  if (target === undefined) {
    const end = first + pages;
    if (end <= limit) {
      if (end < limit) await space.unmap(end, limit);
      return address;
    }
    if (vma.limit === limit && space.vmaList.isFree(limit, end)) {
      if (vma.locked) space.lockedVm += end - limit;
      vma.limit = end;
      space.vmaList.merge(first, end);
      if (vma.locked) await space.populate(limit, end);
      return address;
    }
    if (!mayMove)
      throw new IommuError(
        "ENOMEM",
        `0x${address.toString(16)} cannot grow to 0x${(pages * PAGE_SIZE).toString(16)} bytes in place`,
      );
  }
  return move(space, first, limit, target ?? freePages(space, pages), pages);
}

async function move(space: AddressSpace, first: number, limit: number, to: number, pages: number): Promise<bigint> {
  await space.unmap(to, to + pages);
  if (first + pages < limit) {
    await space.unmap(first + pages, limit);
    limit = first + pages;
  }
  await space.isolate(first, limit);
  const [old] = space.vmaList.cut(first, limit);
  const moved = old.clone({ first: to, limit: to + pages, offset: old.offset });
  space.vmaList.insert(moved);
  await space.mappings.move(first, limit, to);
  old.close();
  if (moved.locked) {
    space.lockedVm += moved.pages - old.pages;
    await space.populate(to, to + pages);
  }
  space.vmaList.merge(to, to + pages);
  return addressOf(to);
}
