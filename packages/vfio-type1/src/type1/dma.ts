/** vfio_dma: one mapping of the caller's memory, with the pages that it pins and the account that pays for them (F14, F20). */
import { addressOf, type Mm, type PinnedPages, pageOf, type Task } from "@iommukit/core";

/** Who is charged for the pages. Kept for the mapping's life: the process may be gone when it is unmapped. */
export interface DmaOwner {
  /** Whose RLIMIT_MEMLOCK counts; its limit is read anew each time. */
  readonly task: Task;
  /** The mapping holds a reference to the struct (mmgrab). */
  readonly mm: Mm;
  /** CAP_IPC_LOCK at the time of the call: the limit is ignored. */
  readonly lockCap: boolean;
}

/** vfio_pfn: a page that drivers of emulated devices hold, and how many times they have pinned it. */
export interface ExternalPage {
  readonly pinned: PinnedPages;
  users: number;
}

/** A container may have a million mappings: what most of them do not need is shared. */
export const NO_PAGES: readonly PinnedPages[] = [];
const NO_EXTERNAL: ReadonlyMap<number, ExternalPage> = new Map();

export class VfioDma {
  /** In pages: numbers of that size need no memory of their own, as bigints would. */
  readonly #iova: number;
  #vaddr = 0;
  #size = 0;
  /** One run of pages, as most mappings have, or several. */
  #pages: PinnedPages | readonly PinnedPages[] = NO_PAGES;
  #external: Map<number, ExternalPage> | undefined;
  /** UNMAP with VADDR: the memory behind it is about to come back at another address. */
  vaddrInvalid = false;
  /** Dirty bits while tracking is on: one for each page, and 64 spare ones for shifting. */
  bitmap: BigUint64Array | undefined;

  constructor(
    iova: bigint,
    vaddr: bigint,
    /** IommuProt READ | WRITE. */
    readonly prot: number,
    public owner: DmaOwner,
  ) {
    this.#iova = pageOf(iova);
    this.vaddr = vaddr;
  }

  /** What an IOMMU's domains hold, lowest first; empty while the container has none. */
  get pages(): readonly PinnedPages[] {
    return isList(this.#pages) ? this.#pages : [this.#pages];
  }

  set pages(pages: readonly PinnedPages[]) {
    this.#pages = pages.length === 1 ? pages[0] : pages.length === 0 ? NO_PAGES : pages;
  }

  get iova(): bigint {
    return addressOf(this.#iova);
  }

  get vaddr(): bigint {
    return addressOf(this.#vaddr);
  }

  set vaddr(address: bigint) {
    this.#vaddr = pageOf(address);
  }

  /** Bytes. */
  get size(): bigint {
    return addressOf(this.#size);
  }

  set size(bytes: bigint) {
    this.#size = pageOf(bytes);
  }

  /** pfn_list, by page of the mapping. A page is charged once, whoever holds it. */
  get external(): ReadonlyMap<number, ExternalPage> {
    return this.#external ?? NO_EXTERNAL;
  }

  addExternal(page: number, held: ExternalPage): void {
    this.#external ??= new Map();
    this.#external.set(page, held);
  }

  removeExternal(page: number): void {
    this.#external?.delete(page);
  }

  /** iommu_mapped: domains translate it. */
  get mapped(): boolean {
    return this.#pages !== NO_PAGES;
  }

  /** Inclusive; a mapping may end at 2^64 - 1. */
  get last(): bigint {
    return this.iova + this.size - 1n;
  }
}

function isList(pages: PinnedPages | readonly PinnedPages[]): pages is readonly PinnedPages[] {
  return Array.isArray(pages);
}
