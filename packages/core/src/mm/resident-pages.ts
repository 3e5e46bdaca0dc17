/**
 * What is resident in an address space: page → physical address and PageFlag bits. The page tables show it, one in each
 * format; this is what they are made from. A region of 2 MiB may be one block: its 512 pages are contiguous in RAM,
 * have equal flags, and take one table entry.
 */
import { BLOCK_PAGES, blockOf } from "./page-number.js";

/** A page, or a block, and its PageFlag bits. */
export interface ResidentPage {
  pa: number;
  /** PageFlag bits as software set them; hardware's access and dirty updates are in the tables. */
  flags: number;
  /** Resident, but in no table: PROT_NONE. */
  hidden: boolean;
}

interface Region {
  readonly pages: Map<number, ResidentPage>;
  block: boolean;
}

/** By page number. */
export class ResidentPages {
  readonly #regions = new Map<number, Region>();
  #size = 0;

  /** Pages that are resident. */
  get size(): number {
    return this.#size;
  }

  get(page: number): ResidentPage | undefined {
    return this.#regions.get(blockOf(page))?.pages.get(page);
  }

  set(page: number, resident: ResidentPage): void {
    const key = blockOf(page);
    let region = this.#regions.get(key);
    if (!region) {
      region = { pages: new Map(), block: false };
      this.#regions.set(key, region);
    }
    if (!region.pages.has(page)) this.#size++;
    region.pages.set(page, resident);
  }

  delete(page: number): void {
    const key = blockOf(page);
    const region = this.#regions.get(key);
    if (!region?.pages.delete(page)) return;
    this.#size--;
    if (region.pages.size === 0) this.#regions.delete(key);
  }

  /** Whether the page is part of a block. */
  inBlock(page: number): boolean {
    return this.#regions.get(blockOf(page))?.block ?? false;
  }

  setBlock(page: number, block: boolean): void {
    const region = this.#regions.get(blockOf(page));
    if (region) region.block = block;
  }

  /** Whether no page of the 2 MiB around `page` is resident. */
  blockIsEmpty(page: number): boolean {
    return !this.#regions.has(blockOf(page));
  }

  /** Pages of [first, limit), lowest first. The callback may change and delete the page that it is given. */
  forEach(first: number, limit: number, each: (page: number, resident: ResidentPage) => void): void {
    for (const key of this.#keys(first, limit)) {
      const region = this.#regions.get(key) as Region;
      const end = Math.min(limit, key + BLOCK_PAGES);
      for (let page = Math.max(first, key); page < end; page++) {
        const resident = region.pages.get(page);
        if (resident) each(page, resident);
      }
    }
  }

  /** Regions that hold pages of [first, limit), lowest first, in time that does not grow with an empty range. */
  #keys(first: number, limit: number): number[] {
    const keys: number[] = [];
    if ((limit - first) / BLOCK_PAGES < this.#regions.size) {
      for (let key = blockOf(first); key < limit; key += BLOCK_PAGES) if (this.#regions.has(key)) keys.push(key);
      return keys;
    }
    for (const key of this.#regions.keys()) if (key + BLOCK_PAGES > first && key < limit) keys.push(key);
    return keys.sort((a, b) => a - b);
  }
}
