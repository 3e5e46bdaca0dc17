/** Where an address is found in the levels of a table: indices, entry sizes, and whether it is in range at all (DDI0487 D8.2). */
import { MAX_LEVELS, type PageTableGeometry, PageTableQuirk } from "./page-table-geometry.js";

export class PageTableLevels {
  readonly #shift: number[] = [];
  readonly #indexMask: number[] = [];
  readonly #size: number[] = [];
  readonly #entriesPerTable: number;

  constructor(private readonly geometry: PageTableGeometry) {
    const { bitsPerLevel, startLevel, pgdBits } = geometry;
    for (let level = 0; level < MAX_LEVELS; level++) {
      this.#shift[level] = (MAX_LEVELS - level) * bitsPerLevel + 3;
      this.#indexMask[level] = 2 ** (level === startLevel ? pgdBits : bitsPerLevel) - 1;
      this.#size[level] = 2 ** this.#shift[level];
    }
    this.#entriesPerTable = 2 ** bitsPerLevel;
  }

  /** Bytes that one entry of the level maps. */
  size(level: number): number {
    return this.#size[level];
  }

  index(hi: number, lo: number, level: number): number {
    const shift = this.#shift[level];
    const bits = shift >= 32 ? hi >>> (shift - 32) : (lo >>> shift) | (hi << (32 - shift));
    return bits & this.#indexMask[level];
  }

  /** Bytes of a table of the level. */
  bytes(level: number): number {
    const { granule, pgdBits, startLevel } = this.geometry;
    return level === startLevel ? Math.max(8 * 2 ** pgdBits, 64) : granule;
  }

  /** How many of `count` entries from `index` on stand in its table; concatenated tables count each for itself. */
  inTable(index: number, count: number): number {
    return Math.min(count, this.#entriesPerTable - (index & (this.#entriesPerTable - 1)));
  }

  /** True for a size in the bitmap; a sum of such sizes passes too, as in Linux, and is refused at the last level. */
  takes(pgsize: number): boolean {
    if (pgsize === this.geometry.granule) return true;
    const size = BigInt(pgsize);
    return size !== 0n && (size & this.geometry.pgsizeBitmap) === size;
  }

  /** The bits above `ias` are all zero, or all one for a TTBR1 table. */
  inRange(hi: number, lo: number): boolean {
    const { ias, config } = this.geometry;
    const sign = config.quirks & PageTableQuirk.ARM_TTBR1 ? -1 : 0;
    if (ias < 32) return hi === sign && lo >> ias === sign;
    return hi >> (ias - 32) === sign;
  }
}
