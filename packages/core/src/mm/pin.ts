/** get_user_pages: pages held for DMA, whatever the process does meanwhile. The caller holds the mmap_lock. */
import { IommuError } from "../kernel/errno.js";
import type { DemandPaging } from "./demand-paging.js";
import type { PinnedPage } from "./mm.js";
import { addressOf } from "./page-number.js";
import { PageFlag } from "./page-table/page-table.js";
import type { ResidentPage } from "./resident-pages.js";

/** pin_user_pages(FOLL_LONGTERM). @throws IommuError EFAULT, ENOMEM */
export async function pinPage(
  space: DemandPaging,
  page: number,
  write: boolean,
  keepZeroPage: boolean,
): Promise<PinnedPage> {
  const pa = await pinnable(space, page, write, keepZeroPage);
  const { frames } = space.environment;
  const zero = keepZeroPage && isZeroPage(space.mappings.pages.get(page));
  frames.hold(pa, "pins");
  let pinned = true;
  return {
    pa,
    reserved: zero || frames.at(pa) === undefined,
    unpin: () => {
      if (!pinned) throw new Error(`page 0x${pa.toString(16)} is not pinned any more`);
      pinned = false;
      frames.drop(pa, "pins");
    },
  };
}

function isZeroPage(resident: ResidentPage | undefined): boolean {
  return resident !== undefined && (resident.flags & PageFlag.SPECIAL) !== 0;
}

async function pinnable(space: DemandPaging, page: number, write: boolean, keepZeroPage: boolean): Promise<number> {
  const refuse = (why: string) =>
    new IommuError("EFAULT", `cannot pin 0x${addressOf(page).toString(16)} of ${space.owner}: ${why}`);
  const vma = space.mmUsers > 0 ? space.vmaList.find(page) : undefined;
  if (!vma) throw refuse("nothing is mapped there");
  if (!write && !vma.read) throw refuse("it is not readable");
  if (write && !vma.write) throw refuse("it is not writable");
  const { pages } = space.mappings;
  const present = pages.get(page);
  if (!present || (write && (present.flags & PageFlag.WRITE) === 0)) {
    const result = await space.faultIn(vma, page, write);
    if (result === "oom") throw new IommuError("ENOMEM", `no memory for a page of ${space.owner}`);
    if (result !== "ok") throw refuse("it lies beyond the end of its file");
  }
  const resident = pages.get(page) as ResidentPage;
  const { frames } = space.environment;
  if (keepZeroPage && isZeroPage(resident)) return resident.pa;
  // What others see as well is copied first, so that the page stays this process's when it writes.
  if (!vma.shared && frames.at(resident.pa) && !frames.isExclusive(resident.pa)) {
    await space.mappings.split(page);
    await space.takeCopy(page, resident, 0);
  }
  return resident.pa;
}
