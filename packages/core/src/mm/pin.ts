/** get_user_pages: pages held for DMA, whatever the process does meanwhile. The caller holds the mmap_lock. */
import { IommuError } from "../kernel/errno.js";
import { PAGE_SIZE } from "../memory/address.js";
import type { DemandPaging } from "./demand-paging.js";
import type { PinnedPages } from "./mm.js";
import { addressOf } from "./page-number.js";
import { PageFlag } from "./page-table/page-table.js";
import type { ResidentPage } from "./resident-pages.js";
import type { Vma } from "./vma.js";

/** pin_user_pages(FOLL_LONGTERM), up to the first page that is elsewhere or cannot be pinned. @throws IommuError EFAULT, ENOMEM */
export async function pinPages(
  space: DemandPaging,
  first: number,
  most: number,
  write: boolean,
  keepZeroPage: boolean,
): Promise<PinnedPages> {
  const { frames } = space.environment;
  const pa = ready(space, first, write, keepZeroPage) ?? (await pinnable(space, first, write, keepZeroPage));
  const reserved = isReserved(space, first, pa, keepZeroPage);
  frames.hold(pa, "pins");
  let pages = 1;
  for (; pages < most; pages++) {
    const page = first + pages;
    const next = ready(space, page, write, keepZeroPage) ?? (await orNothing(space, page, write, keepZeroPage));
    if (next !== pa + pages * PAGE_SIZE || isReserved(space, page, next, keepZeroPage) !== reserved) break;
    frames.hold(next, "pins");
  }
  return new HeldPages(frames, pa, pages, reserved);
}

/** One object: a container may hold a million. */
class HeldPages implements PinnedPages {
  #held = true;

  constructor(
    private readonly frames: DemandPaging["environment"]["frames"],
    readonly pa: number,
    readonly pages: number,
    readonly reserved: boolean,
  ) {}

  unpin(): void {
    const { frames, pa, pages } = this;
    if (!this.#held) throw new Error(`page 0x${pa.toString(16)} is not pinned any more`);
    this.#held = false;
    for (let page = 0; page < pages; page++) frames.drop(pa + page * PAGE_SIZE, "pins");
  }
}

function isReserved(space: DemandPaging, page: number, pa: number, keepZeroPage: boolean): boolean {
  const zero = keepZeroPage && isZeroPage(space.mappings.pages.get(page));
  return zero || space.environment.frames.at(pa) === undefined;
}

/** A page that another call will say more about when it cannot be pinned. */
async function orNothing(
  space: DemandPaging,
  page: number,
  write: boolean,
  keepZeroPage: boolean,
): Promise<number | undefined> {
  try {
    return await pinnable(space, page, write, keepZeroPage);
  } catch (error) {
    if (error instanceof IommuError) return undefined;
    throw error;
  }
}

/** The page as it is, where nothing has to be faulted in or copied first. */
function ready(space: DemandPaging, page: number, write: boolean, keepZeroPage: boolean): number | undefined {
  const vma = space.mmUsers > 0 ? space.vmaList.find(page) : undefined;
  const resident = space.mappings.pages.get(page);
  if (!vma || !resident || !(write ? vma.write && (resident.flags & PageFlag.WRITE) !== 0 : vma.read)) return undefined;
  if (keepZeroPage && isZeroPage(resident)) return resident.pa;
  return mustCopy(space, vma, resident) ? undefined : resident.pa;
}

/** What others see as well is copied first, so that the page stays this process's when it writes. */
function mustCopy(space: DemandPaging, vma: Vma, { pa }: ResidentPage): boolean {
  return !vma.shared && space.environment.frames.isShared(pa);
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
  if (keepZeroPage && isZeroPage(resident)) return resident.pa;
  if (mustCopy(space, vma, resident)) {
    await space.mappings.split(page);
    await space.takeCopy(page, resident, 0);
  }
  return resident.pa;
}
