/**
 * The I/O page table of a domain that is filled with map and unmap: a radix tree of 512-entry tables, 3 to 5 levels, leaves
 * of 4 KiB, 2 MiB and 1 GiB (VT-d 3.6, 3.7). Tables that an unmap covers whole, or that a larger leaf replaces, are handed
 * out to be freed only after the invalidation. Left out: concurrent walkers of one table on several CPUs.
 */
import {
  hex,
  hiOf,
  IommuError,
  isErrno,
  join64,
  lo32,
  loOf,
  PAGE_SIZE,
  type PageAllocator,
  type PhysicalMemory,
  pageOf,
  physical,
  type Tracer,
} from "@iommukit/core";
import { SECOND_STAGE_ENTRY } from "../spec/page-table.js";
import type { PagingFormat } from "./paging-format.js";

const ENTRIES = 512;
const ENTRY_BYTES = 8;
const ADDRESS_HI = SECOND_STAGE_ENTRY.ADDR.highMask;
const ADDRESS_LO = SECOND_STAGE_ENTRY.ADDR.lowMask;
/** Highest level that may hold a leaf: 1 GiB. */
const LARGEST_LEAF = 3;

/** 4 KiB pages that one entry of each level spans, and the whole of the deepest table. */
const SPANS = Array.from({ length: 7 }, (_, level) => ENTRIES ** (level - 1));

function span(level: number): number {
  return SPANS[level];
}

/** Of the page's entry in its table of the level. */
function indexOf(page: number, level: number): number {
  return Math.floor(page / span(level)) & (ENTRIES - 1);
}

/** Level whose leaves are `pgsize` bytes; 0 when there is none. */
function levelOfSize(pgsize: number): number {
  for (let level = 1; level <= LARGEST_LEAF; level++) if (span(level) * PAGE_SIZE === pgsize) return level;
  return 0;
}

/** Where the last lookup ended. */
interface Slot {
  /** Physical address of the entry. */
  entry: number;
  level: number;
  hi: number;
  lo: number;
}

export interface PageTableOptions {
  readonly format: PagingFormat;
  readonly levels: number;
  /** Who owns the pages: "vtd domain 2". */
  readonly owner: string;
  readonly memory: PhysicalMemory;
  readonly pages: PageAllocator;
  readonly trace: Tracer;
}

export class PageTable {
  readonly root: number;
  readonly format: PagingFormat;
  readonly levels: number;
  /** Tables that `map` replaced with a larger leaf; to be freed after the next invalidation with IH = 0. */
  retired: number[] = [];
  readonly #slot: Slot = { entry: 0, level: 0, hi: 0, lo: 0 };
  readonly #memory: PhysicalMemory;
  readonly #pages: PageAllocator;
  readonly #trace: Tracer;
  readonly #owner: string;
  /** Unmap met a hole, or the middle of a leaf. */
  #stopped = false;

  constructor(options: PageTableOptions) {
    this.format = options.format;
    this.levels = options.levels;
    this.#memory = options.memory;
    this.#pages = options.pages;
    this.#trace = options.trace;
    this.#owner = options.owner;
    this.root = this.#allocTable();
  }

  /**
   * Maps `count` pages of `pgsize` bytes. @returns bytes mapped: less than asked only when a table could not be allocated
   * @throws IommuError EINVAL size, alignment or prot; ENOMEM nothing could be mapped; EEXIST over a mapping, with nothing changed
   */
  map(iova: bigint, pa: number, pgsize: number, count: number, prot: number, snoop: boolean): number {
    const level = levelOfSize(pgsize);
    if (level === 0) throw new IommuError("EINVAL", `no page of ${hex(pgsize)} bytes`);
    const first = pageOf(iova);
    if (first % span(level) !== 0 || (lo32(iova) | pa) % PAGE_SIZE !== 0 || pa % pgsize !== 0)
      throw new IommuError("EINVAL", `${hex(iova)} → ${hex(pa)} is not aligned to ${hex(pgsize)}`);
    const bits = this.format.leaf(prot, snoop) | (level > 1 ? this.format.large : 0);
    let done = 0;
    try {
      while (done < count)
        done += this.#mapRun(first + done * span(level), pa + done * pgsize, level, count - done, bits);
    } catch (error) {
      if (isErrno(error, "ENOMEM") && done > 0) return done * pgsize;
      if (done > 0) this.unmap(iova, pgsize, done, this.retired);
      throw error;
    }
    return done * pgsize;
  }

  /** Fills entries of one table. @returns how many */
  #mapRun(page: number, pa: number, level: number, count: number, bits: number): number {
    const table = this.#tableAt(page, level);
    const index = indexOf(page, level);
    const run = Math.min(count, ENTRIES - index);
    for (let i = 0; i < run; i++) this.#claim(table + (index + i) * ENTRY_BYTES, level, page + i * span(level));
    const step = span(level) * PAGE_SIZE;
    for (let i = 0; i < run; i++)
      this.#store(table + (index + i) * ENTRY_BYTES, level, hiOf(pa + i * step), loOf(pa + i * step) | bits);
    return run;
  }

  /** Makes sure that a leaf may go into the entry: not present, or a table that maps nothing any more. */
  #claim(entry: number, level: number, page: number): void {
    const lo = this.#memory.load32(entry);
    if ((lo & this.format.present) === 0) return;
    const table = physical(this.#memory.load32(entry + 4) & ADDRESS_HI, lo & ADDRESS_LO);
    const leaf = level === 1 || (lo & this.format.large) !== 0;
    if (leaf || !this.#isEmpty(table, level - 1))
      throw new IommuError("EEXIST", `${this.#owner}: ${hex(page * PAGE_SIZE)} is already mapped`);
    this.#store(entry, level, 0, 0);
    this.#collect(table, level - 1, this.retired);
  }

  /** Physical address of the table of `level` that covers `page`; tables on the way are made. */
  #tableAt(page: number, level: number): number {
    let table = this.root;
    for (let at = this.levels; at > level; at--) {
      const entry = table + indexOf(page, at) * ENTRY_BYTES;
      const lo = this.#memory.load32(entry);
      if ((lo & this.format.present) === 0) {
        table = this.#allocTable();
        this.#store(entry, at, hiOf(table), loOf(table) | this.format.table);
      } else if (lo & this.format.large) {
        throw new IommuError(
          "EEXIST",
          `${this.#owner}: ${hex(page * PAGE_SIZE)} lies in a larger page that is already mapped`,
        );
      } else {
        table = physical(this.#memory.load32(entry + 4) & ADDRESS_HI, lo & ADDRESS_LO);
      }
    }
    return table;
  }

  /**
   * Unmaps up to the first hole. A larger page that starts in the range goes as a whole.
   * @param freed takes the tables that nothing uses any more: free them after the invalidation
   * @returns bytes unmapped
   */
  unmap(iova: bigint, pgsize: number, count: number, freed: number[]): number {
    const first = pageOf(iova);
    this.#stopped = false;
    return this.#unmapIn(this.root, this.levels, first, first + (pgsize / PAGE_SIZE) * count - 1, freed) * PAGE_SIZE;
  }

  /** @returns pages unmapped between `first` and `last` under one table */
  #unmapIn(table: number, level: number, first: number, last: number, freed: number[]): number {
    const step = span(level);
    let removed = 0;
    for (let page = first; page <= last && !this.#stopped; ) {
      const start = Math.floor(page / step) * step;
      const entry = table + indexOf(page, level) * ENTRY_BYTES;
      const lo = this.#memory.load32(entry);
      const leaf = level === 1 || (lo & this.format.large) !== 0;
      if ((lo & this.format.present) === 0 || (leaf && page !== start)) {
        this.#stopped = true;
      } else if (leaf) {
        this.#store(entry, level, 0, 0);
        removed += step;
      } else {
        const below = physical(this.#memory.load32(entry + 4) & ADDRESS_HI, lo & ADDRESS_LO);
        removed += this.#unmapIn(below, level - 1, page, Math.min(last, start + step - 1), freed);
        if (page === start && start + step - 1 <= last && !this.#stopped) {
          this.#store(entry, level, 0, 0);
          freed.push(below);
        }
      }
      page = start + step;
    }
    return removed;
  }

  /** Physical address behind `iova`; undefined when it is not mapped. */
  iovaToPhys(iova: bigint): number | undefined {
    const slot = this.#lookup(iova);
    if (slot === undefined) return undefined;
    const size = span(slot.level) * PAGE_SIZE;
    const frame = physical(slot.hi & ADDRESS_HI, slot.lo & ADDRESS_LO);
    return Math.floor(frame / size) * size + Number(iova % BigInt(size));
  }

  /** Bytes of the leaf that maps `iova`, and whether it was written since the last clearing; undefined when not mapped. */
  leafAt(iova: bigint): { readonly size: number; readonly dirty: boolean } | undefined {
    const slot = this.#lookup(iova);
    return slot && { size: span(slot.level) * PAGE_SIZE, dirty: (slot.lo & this.format.dirty) !== 0 };
  }

  /**
   * Clears the dirty bit of the leaf that maps `iova`. The caller invalidates, or later writes go unseen.
   * @returns whether it was set
   */
  clearDirty(iova: bigint): boolean {
    const slot = this.#lookup(iova);
    if (slot === undefined || (slot.lo & this.format.dirty) === 0) return false;
    this.#store(slot.entry, slot.level, slot.hi, slot.lo & ~this.format.dirty);
    return true;
  }

  #lookup(iova: bigint): Slot | undefined {
    const page = pageOf(iova);
    const slot = this.#slot;
    if (page >= span(this.levels + 1)) return undefined;
    for (let table = this.root, level = this.levels; ; level--) {
      slot.entry = table + indexOf(page, level) * ENTRY_BYTES;
      slot.level = level;
      slot.lo = this.#memory.load32(slot.entry);
      slot.hi = this.#memory.load32(slot.entry + 4);
      if ((slot.lo & this.format.present) === 0) return undefined;
      if (level === 1 || slot.lo & this.format.large) return slot;
      table = physical(slot.hi & ADDRESS_HI, slot.lo & ADDRESS_LO);
    }
  }

  /** Gives all tables back. Nobody may walk them any more. */
  free(): void {
    const tables: number[] = [];
    this.#collect(this.root, this.levels, tables);
    this.release(tables);
    this.release(this.retired);
  }

  /** Frees tables that an invalidation has made unreachable; empties the list. */
  release(tables: number[]): void {
    for (const table of tables.splice(0)) this.#pages.free(table);
  }

  #isEmpty(table: number, level: number): boolean {
    for (let entry = table; entry < table + PAGE_SIZE; entry += ENTRY_BYTES) {
      const lo = this.#memory.load32(entry);
      if ((lo & this.format.present) === 0) continue;
      if (level === 1 || lo & this.format.large) return false;
      if (!this.#isEmpty(physical(this.#memory.load32(entry + 4) & ADDRESS_HI, lo & ADDRESS_LO), level - 1))
        return false;
    }
    return true;
  }

  /** Lists a table and all tables below it. */
  #collect(table: number, level: number, into: number[]): void {
    into.push(table);
    if (level === 1) return;
    for (let entry = table; entry < table + PAGE_SIZE; entry += ENTRY_BYTES) {
      const lo = this.#memory.load32(entry);
      if ((lo & this.format.present) === 0 || lo & this.format.large) continue;
      this.#collect(physical(this.#memory.load32(entry + 4) & ADDRESS_HI, lo & ADDRESS_LO), level - 1, into);
    }
  }

  #allocTable(): number {
    return this.#pages.alloc(1, this.#owner);
  }

  #store(entry: number, level: number, hi: number, lo: number): void {
    this.#memory.store64(entry, hi, lo);
    if (this.#trace.wants("table:written"))
      this.#trace.emit("table:written", {
        by: this.#owner,
        table: `${this.format.name} level ${level}`,
        address: entry,
        value: join64(hi, lo),
      });
  }
}
