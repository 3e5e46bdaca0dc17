/** khugepaged: 512 pages of private memory become one 2 MiB block. The caller holds the mmap_lock. */
import { isErrno } from "../kernel/errno.js";
import { PAGE_SIZE } from "../memory/address.js";
import type { AddressSpace } from "./address-space.js";
import { BLOCK_PAGES, blockOf } from "./page-number.js";
import { PageFlag } from "./page-table/page-table.js";

/**
 * Refuses what others see or hold as well: shared and file memory, forked pages, pinned pages.
 * @returns whether the 2 MiB around the page are one block now
 */
export async function collapseBlock(space: AddressSpace, page: number): Promise<boolean> {
  const { frames } = space.environment;
  const { pages } = space.mappings;
  const first = blockOf(page);
  const limit = first + BLOCK_PAGES;
  const vma = space.vmaList.find(page);
  if (!vma || vma.first > first || vma.limit < limit || vma.backing || vma.growsDown || vma.hugePages === "never")
    return false;
  if (!vma.accessible) return false;
  if (pages.inBlock(page)) return true;
  const sources: [index: number, pa: number][] = [];
  let movable = true;
  pages.forEach(first, limit, (at, { pa }) => {
    if (frames.isZeroPage(pa)) return;
    if (!frames.isExclusive(pa) || frames.at(pa)?.pins !== 0) movable = false;
    sources.push([at - first, pa]);
  });
  if (!movable) return false;
  let block: number;
  try {
    block = frames.allocBlock(space.anonymousOwner, "mappings");
  } catch (error) {
    if (isErrno(error, "ENOMEM")) return false;
    throw error;
  }
  const writable = vma.write ? PageFlag.WRITE | PageFlag.DIRTY : 0;
  const flags = PageFlag.USER | PageFlag.ACCESSED | (vma.exec ? PageFlag.EXEC : 0) | writable;
  await space.mappings.collapse(first, block, flags, () => {
    for (const [index, pa] of sources) space.copyPage(pa, block + index * PAGE_SIZE);
  });
  return true;
}
