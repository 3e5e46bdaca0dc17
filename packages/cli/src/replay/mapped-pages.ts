/** Which 4 KiB pages of one address space are mapped: enough to see that a mapping cannot be of this space. */
const PAGE_SHIFT = 12n;
/** Pages of a block: one bit each. */
const BLOCK = 512;

export class MappedPages {
  readonly #blocks = new Map<number, Uint32Array>();

  overlaps(start: bigint, size: bigint): boolean {
    return this.#some(start, size, true);
  }

  covers(start: bigint, size: bigint): boolean {
    return size > 0n && !this.#some(start, size, false);
  }

  add(start: bigint, size: bigint): void {
    const [first, end] = pages(start, size);
    for (let page = first; page < end; page++) {
      const block = Math.floor(page / BLOCK);
      const bits = this.#blocks.get(block) ?? new Uint32Array(BLOCK / 32);
      this.#blocks.set(block, bits);
      bits[(page % BLOCK) >> 5] |= 1 << (page & 31);
    }
  }

  remove(start: bigint, size: bigint): void {
    const [first, end] = pages(start, size);
    for (let page = first; page < end; page++) {
      const bits = this.#blocks.get(Math.floor(page / BLOCK));
      if (bits !== undefined) bits[(page % BLOCK) >> 5] &= ~(1 << (page & 31));
    }
  }

  /** Whether a page of the range is mapped, or is not. */
  #some(start: bigint, size: bigint, mapped: boolean): boolean {
    const [first, end] = pages(start, size);
    for (let page = first; page < end; page++) {
      const bits = this.#blocks.get(Math.floor(page / BLOCK));
      const set = bits !== undefined && ((bits[(page % BLOCK) >> 5] >>> (page & 31)) & 1) === 1;
      if (set === mapped) return true;
    }
    return false;
  }
}

/** First page, and the one after the last: exact numbers for any 64-bit address. */
function pages(start: bigint, size: bigint): [number, number] {
  return [Number(start >> PAGE_SHIFT), Number((start + size + 0xfffn) >> PAGE_SHIFT)];
}
