/**
 * The upper levels of a walk through tables of 512 entries of 64 bits, as the last walk found them: those above the table
 * whose entries map 2 MiB. A walk fetches their entries again; while no word of them has changed, they lead to the same
 * table, and decoding them again would give the same. A base class: an object of its own would be one more load on the way to
 * each table.
 */
import { type MemoryWindow, WINDOW_MASK } from "./physical-memory.js";

/** Words of a table, and bits of an entry's offset in it. */
const TABLE_WORDS = 1024;
const OFFSET = 511 << 1;
const NOWHERE = -1;
const NO_WORDS: Int32Array = new Int32Array(0);
const NO_WINDOW: MemoryWindow = { words: NO_WORDS, hi: 0, first: 0 };

/** How an entry says that it leads to a table. */
export interface TableEntryFormat {
  /** Bits of the low word that decide, and what they are then. */
  readonly mask: number;
  readonly table: number;
  /** Bits of the high word that are the address's. */
  readonly addressHi: number;
}

/** For walkers of four levels and more. */
export abstract class UpperTables {
  /** The memory that all tables of the walk have to be in. */
  window = NO_WINDOW;
  /** Address bits from 30 on of those whose last but one table is at index `table` of the window. */
  region = NOWHERE;
  table = 0;
  /** What the entries have: all of them in the low word, one of them in the high word. */
  everyLow = 0;
  anyHigh = 0;
  readonly #format: TableEntryFormat;
  #root = 0;
  #levels = 2;
  #at0 = 0;
  #lo0 = 0;
  #hi0 = 0;
  #at1 = 0;
  #lo1 = 0;
  #hi1 = 0;

  constructor(format: TableEntryFormat) {
    this.#format = format;
  }

  /** @param rootLo low word of the root's address, which is in the window. @param levels upper ones: 1 or 2 */
  protected begin(window: MemoryWindow, rootLo: number, levels: number): void {
    this.window = window;
    this.#root = ((rootLo >>> 2) - window.first) & WINDOW_MASK;
    this.#levels = levels;
    this.region = NOWHERE;
  }

  /** Fetches the entries again. @param words the window's. @returns 0 when they are as they were */
  changed(words: Int32Array): number {
    const at0 = this.#at0;
    const at1 = this.#at1;
    return (
      (words[at0] ^ this.#lo0) | (words[at0 + 1] ^ this.#hi0) | (words[at1] ^ this.#lo1) | (words[at1 + 1] ^ this.#hi1)
    );
  }

  /** For an address of another region, or after a change. @returns 0 when an entry leads to no table in the window */
  climb(hi: number, lo: number): number {
    const { words } = this.window;
    this.region = NOWHERE;
    const offset1 = ((hi << 3) | (lo >>> 29)) & OFFSET;
    const two = this.#levels === 2;
    const at0 = this.#root | (two ? (hi >>> 6) & OFFSET : offset1);
    if (at0 >= words.length) return 0;
    // A single level stands for both.
    const at1 = two ? this.#tableBehind(words, at0) | offset1 : at0;
    if (at1 < 0) return 0;
    const table = this.#tableBehind(words, at1);
    if (table < 0) return 0;
    this.#at0 = at0;
    this.#lo0 = words[at0];
    this.#hi0 = words[at0 + 1];
    this.#at1 = at1;
    this.#lo1 = words[at1];
    this.#hi1 = words[at1 + 1];
    this.everyLow = this.#lo0 & this.#lo1;
    this.anyHigh = this.#hi0 | this.#hi1;
    this.table = table;
    this.region = (hi << 2) | (lo >>> 30);
    return 1;
  }

  /** Index of the table that the entry leads to; negative when it leads to none, or out of the window. */
  #tableBehind(words: Int32Array, at: number): number {
    const { mask, table, addressHi } = this.#format;
    const { hi, first } = this.window;
    const low = words[at];
    const to = ((low >>> 2) & -TABLE_WORDS) - first;
    const here = ((words[at + 1] ^ hi) & addressHi) === 0 && to + TABLE_WORDS <= words.length;
    return here && (low & mask) === table ? to : NOWHERE;
  }
}
