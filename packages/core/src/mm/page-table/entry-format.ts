/** The words of a format's entries, made once from its field tables: what a TableWriter needs to know of it. */
import { PAGE_FLAGS, type PageTableFormat } from "./page-table.js";

/** VMSAV8_64 and X86_64 are the two that there are. */
export interface EntryFormat {
  readonly format: PageTableFormat;
  readonly mair: bigint;
  /** Address bits in the high word. */
  readonly addressHi: number;
  /** An entry that points to a table, without the address. */
  readonly tableHi: number;
  readonly tableLo: number;
  /** By height: entries that map something, without the address; hi at 2 × flags, lo after it. */
  readonly leaves: readonly Int32Array[];
  /** Names of the levels, the leaf's first. */
  readonly levelNames: readonly string[];
  /** Whether a present entry above the lowest level maps a block. */
  isBlock(lo: number): boolean;
  /** PageFlag bits of an entry that maps something. */
  flagsOf(hi: number, lo: number): number;
}

/** `leaves` of an EntryFormat: one entry per combination of PageFlag bits. */
export function leafEntries(encode: (flags: number) => Int32Array): Int32Array {
  const words = new Int32Array(2 * PAGE_FLAGS);
  for (let flags = 0; flags < PAGE_FLAGS; flags++) {
    const [lo, hi] = encode(flags);
    words[2 * flags] = hi;
    words[2 * flags + 1] = lo;
  }
  return words;
}

/** A field of one bit and the flag that it stands for; masks are read once, off the path of bulk changes. */
export class FlagBit {
  readonly #lo: number;
  readonly #hi: number;

  constructor(
    field: { readonly word: number; readonly lowMask: number },
    private readonly flag: number,
  ) {
    this.#lo = field.word === 0 ? field.lowMask : 0;
    this.#hi = field.word === 1 ? field.lowMask : 0;
  }

  /** The flag, or 0 when the bit is clear. */
  of(hi: number, lo: number): number {
    return ((hi & this.#hi) | (lo & this.#lo)) === 0 ? 0 : this.flag;
  }
}
