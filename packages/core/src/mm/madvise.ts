/** madvise(2), as far as it changes what a device sees. The caller holds the mmap_lock. */
import { IommuError } from "../kernel/errno.js";
import type { AddressSpace } from "./address-space.js";
import { collapseBlock } from "./huge-pages.js";
import { addressOf, BLOCK_PAGES, blockOf } from "./page-number.js";

/** MADV_*. "dontneed" takes the pages out: private memory is zero afterwards, a file shows its own bytes again. */
export type Advice = "dontneed" | "hugepage" | "nohugepage" | "collapse" | "dontfork" | "dofork" | "populate";

export async function madvise(space: AddressSpace, first: number, limit: number, advice: Advice): Promise<void> {
  switch (advice) {
    case "dontneed":
      if (space.vmaList.overlapping(first, limit).some((vma) => vma.locked)) {
        throw new IommuError("EINVAL", `part of 0x${addressOf(first).toString(16)} is locked`);
      }
      return space.mappings.remove(first, limit);
    case "populate":
      if (await space.populate(first, limit)) return;
      throw new IommuError("EFAULT", `part of 0x${addressOf(first).toString(16)} cannot be faulted in`);
    case "collapse":
      for (let block = blockOf(first + BLOCK_PAGES - 1); block + BLOCK_PAGES <= limit; block += BLOCK_PAGES) {
        if (await collapseBlock(space, block)) continue;
        throw new IommuError("EAGAIN", `0x${addressOf(block).toString(16)} cannot become a huge page now`);
      }
      return;
    case "hugepage":
    case "nohugepage":
      for (const vma of await space.isolate(first, limit)) vma.hugePages = advice === "hugepage" ? "always" : "never";
      return space.vmaList.merge(first, limit);
    case "dontfork":
    case "dofork":
      for (const vma of await space.isolate(first, limit)) vma.dontFork = advice === "dontfork";
      return space.vmaList.merge(first, limit);
  }
}
