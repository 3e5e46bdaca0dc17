/**
 * Which 4 KiB pages of one address space are mapped, and how they lie: enough to see that a mapping cannot be of this space,
 * and what its addresses do to the tables. Everything is kept up to date as pages come and go; nothing is searched.
 */

/** Pages of a block, one bit each: what one last-level table maps. */
const BLOCK = 512;

interface Block {
  readonly bits: Uint32Array;
  count: number;
}

/** How the mapped pages lie. */
export interface Layout {
  /** Mapped pages of 4 KiB. */
  readonly pages: number;
  /** Runs of mapped pages with a hole on either side. */
  readonly extents: number;
  /** Naturally aligned blocks of 2 MiB with at least one mapped page: last-level tables that 4 KiB pages need. */
  readonly blocks: number;
}

export class MappedPages implements Layout {
  pages = 0;
  extents = 0;
  readonly #blocks = new Map<number, Block>();

  get blocks(): number {
    return this.#blocks.size;
  }

  has(page: number): boolean {
    const block = this.#blocks.get(Math.floor(page / BLOCK));
    return block !== undefined && bitOf(block, page) === 1;
  }

  overlaps(page: number, pages: number): boolean {
    for (let at = page; at < page + pages; at++) if (this.has(at)) return true;
    return false;
  }

  covers(page: number, pages: number): boolean {
    for (let at = page; at < page + pages; at++) if (!this.has(at)) return false;
    return pages > 0;
  }

  /** None of them is mapped. */
  add(page: number, pages: number): void {
    this.extents += 1 - this.#neighbours(page, pages);
    this.pages += pages;
    for (let at = page; at < page + pages; at++) {
      const key = Math.floor(at / BLOCK);
      const block = this.#blocks.get(key) ?? { bits: new Uint32Array(BLOCK / 32), count: 0 };
      if (block.count++ === 0) this.#blocks.set(key, block);
      block.bits[(at % BLOCK) >> 5] |= 1 << (at & 31);
    }
  }

  /** All of them are mapped. */
  remove(page: number, pages: number): void {
    this.extents += this.#neighbours(page, pages) - 1;
    this.pages -= pages;
    for (let at = page; at < page + pages; at++) {
      const key = Math.floor(at / BLOCK);
      const block = this.#blocks.get(key);
      if (block === undefined) throw new Error(`page 0x${at.toString(16)} is not mapped`);
      block.bits[(at % BLOCK) >> 5] &= ~(1 << (at & 31));
      if (--block.count === 0) this.#blocks.delete(key);
    }
  }

  /** How many of the two pages beside the range are mapped. */
  #neighbours(page: number, pages: number): number {
    return (this.has(page - 1) ? 1 : 0) + (this.has(page + pages) ? 1 : 0);
  }
}

/** Bits of a page's place: its number may be beyond 32 bits, its place in the block is not. */
function bitOf({ bits }: Block, page: number): number {
  return (bits[(page % BLOCK) >> 5] >>> (page & 31)) & 1;
}
