/**
 * Writes a radix tree of 512-entry tables in simulated RAM, as the kernel's pgd/pud/pmd/pte functions do. The formats
 * differ in the words of an entry only. Every change of a live table is one 8-byte store; new tables are filled before
 * they are linked; a table that has become empty is unlinked and handed back, because hardware may hold its address
 * until it has been told.
 *
 * Pages are numbers (address / 4096), exact to 53 bits; entries are int32 halves: no bigint per entry.
 */
import { isErrno } from "../../kernel/errno.js";
import { hiOf, join64, loOf, PAGE_SHIFT, PAGE_SIZE, physical } from "../../memory/address.js";
import type { PageAllocator } from "../../memory/page-allocator.js";
import type { PhysicalMemory } from "../../memory/physical-memory.js";
import type { Tracer } from "../../trace/tracer.js";
import type { EntryFormat } from "./entry-format.js";
import type { PageMapping, PageShift, PageTable, PageTableFormat } from "./page-table.js";

/** Where tables are written, and who hears of it. */
export interface TableEnvironment {
  readonly memory: PhysicalMemory;
  readonly pages: PageAllocator;
  readonly trace: Tracer;
}

const ENTRIES = 512;
const PRESENT = 1;

/** Pages that one entry covers, by height above the lowest level. */
const SPAN = [1, ENTRIES, ENTRIES ** 2, ENTRIES ** 3, ENTRIES ** 4];

/** createX86Table and createVmsaTable make one. */
export class TableWriter implements PageTable {
  readonly root: number;
  readonly pageSize = PAGE_SIZE;
  readonly vaBits: number;
  readonly #owner: string;
  /** Entries in use, by table. */
  readonly #used = new Map<number, number>();
  /** The entry read last. */
  #hi = 0;
  #lo = 0;

  /** @throws IommuError ENOMEM */
  constructor(
    private readonly environment: TableEnvironment,
    private readonly entries: EntryFormat,
    readonly levels: number,
    owner: string,
  ) {
    this.vaBits = PAGE_SHIFT + 9 * levels;
    this.#owner = `${owner} ${entries.format} table`;
    this.root = this.#allocate();
  }

  get format(): PageTableFormat {
    return this.entries.format;
  }

  get mair(): bigint {
    return this.entries.mair;
  }

  /** Pages that the root covers. */
  get #pages(): number {
    return SPAN[this.levels - 1] * ENTRIES;
  }

  get bytes(): number {
    return this.#used.size * PAGE_SIZE;
  }

  /**
   * Maps a page or block where nothing is mapped, or rewrites the entry that maps it.
   * @param page first page, a multiple of the block; @throws IommuError ENOMEM, with the tables as before
   */
  map(page: number, pa: number, flags: number, shift: PageShift = PAGE_SHIFT): void {
    const height = heightOf(shift);
    const leaves = this.entries.leaves[height];
    this.#put(page, height, leaves[2 * flags] | hiOf(pa), leaves[2 * flags + 1] | loOf(pa));
  }

  /**
   * Maps 512 entries of the next smaller size with one store to the live table. The block entry must have been cleared,
   * and hardware told, before (D8.16.1 break-before-make).
   * @throws IommuError ENOMEM, with nothing mapped
   */
  mapSplit(page: number, pa: number, flags: number, shift: PageShift): void {
    const height = heightOf(shift);
    const leaves = this.entries.leaves[height - 1];
    const table = this.#allocate();
    for (let i = 0, at = pa; i < ENTRIES; i++, at += SPAN[height - 1] * PAGE_SIZE) {
      this.#store(
        table,
        page + i * SPAN[height - 1],
        height - 1,
        leaves[2 * flags] | hiOf(at),
        leaves[2 * flags + 1] | loOf(at),
      );
    }
    try {
      this.#put(page, height, this.entries.tableHi | hiOf(table), this.entries.tableLo | loOf(table));
    } catch (error) {
      this.#release(table);
      throw error;
    }
  }

  /**
   * Sets and clears PageFlag bits in every entry of [first, limit); a block counts when any of its pages lies inside.
   * @returns all flags that an entry had
   */
  change(first: number, limit: number, set: number, clear: number): number {
    return this.#change(this.root, this.levels - 1, first, Math.min(limit, this.#pages), set, clear);
  }

  /**
   * Clears every entry of [first, limit); blocks must lie inside.
   * @param emptied gets the tables that have become empty: to be released when hardware has been told
   */
  clear(first: number, limit: number, emptied: number[]): void {
    this.#clear(this.root, this.levels - 1, first, Math.min(limit, this.#pages), emptied);
  }

  /** Frees tables that `clear` has unlinked. */
  release(tables: readonly number[]): void {
    for (const table of tables) this.#release(table);
  }

  /** Frees every table. Nothing may walk it any more. */
  destroy(): void {
    for (const table of this.#used.keys()) this.environment.pages.free(table);
    this.#used.clear();
  }

  lookup(address: bigint): PageMapping | undefined {
    const page = Number(address >> BigInt(PAGE_SHIFT));
    if (page >= this.#pages) return undefined;
    for (let table = this.root, height = this.levels - 1; ; height--) {
      if (!this.#load(table, page, height)) return undefined;
      if (!this.#isLeaf(height)) {
        table = this.#address(0);
        continue;
      }
      const shift = (PAGE_SHIFT + 9 * height) as PageShift;
      const offset = Number(BigInt.asUintN(shift, address));
      return { pa: this.#address(height) + offset, shift, flags: this.entries.flagsOf(this.#hi, this.#lo) };
    }
  }

  /** Installs an entry, with the tables that are missing above it: lowest first, so that no walk sees half a path. */
  #put(page: number, height: number, hi: number, lo: number): void {
    let table = this.root;
    let level = this.levels - 1;
    for (; level > height && this.#load(table, page, level); level--) {
      if (this.#isLeaf(level)) throw new Error(`${this.#owner}: page 0x${page.toString(16)} lies in a block`);
      table = this.#address(0);
    }
    const path = this.#allocatePath(level - height);
    for (const [i, next] of path.entries()) {
      this.#store(next, page, height + i, hi, lo);
      hi = this.entries.tableHi | hiOf(next);
      lo = this.entries.tableLo | loOf(next);
    }
    if (this.#load(table, page, level) && !this.#isLeaf(level))
      throw new Error(`${this.#owner}: smaller pages are mapped at page 0x${page.toString(16)}`);
    this.#store(table, page, level, hi, lo);
  }

  #allocate(): number {
    const table = this.environment.pages.alloc(1, this.#owner);
    this.#used.set(table, 0);
    return table;
  }

  #release(table: number): void {
    this.#used.delete(table);
    this.environment.pages.free(table);
  }

  #allocatePath(count: number): number[] {
    const path: number[] = [];
    try {
      while (path.length < count) path.push(this.#allocate());
    } catch (error) {
      if (isErrno(error)) this.release(path);
      throw error;
    }
    return path;
  }

  #change(table: number, height: number, first: number, limit: number, set: number, clear: number): number {
    let seen = 0;
    const span = SPAN[height];
    for (let page = Math.floor(first / span) * span; page < limit; page += span) {
      if (!this.#load(table, page, height)) continue;
      if (!this.#isLeaf(height)) {
        seen |= this.#change(
          this.#address(0),
          height - 1,
          Math.max(first, page),
          Math.min(limit, page + span),
          set,
          clear,
        );
        continue;
      }
      const leaves = this.entries.leaves[height];
      for (;;) {
        const flags = this.entries.flagsOf(this.#hi, this.#lo);
        const pa = this.#address(height);
        const next = (flags | set) & ~clear;
        seen |= flags;
        // Hardware may set access and dirty state at any time: the exchange loses none of it.
        if (
          next === flags ||
          this.#exchange(table, page, height, leaves[2 * next] | hiOf(pa), leaves[2 * next + 1] | loOf(pa))
        )
          break;
        this.#load(table, page, height);
      }
    }
    return seen;
  }

  #clear(table: number, height: number, first: number, limit: number, emptied: number[]): void {
    const span = SPAN[height];
    for (let page = Math.floor(first / span) * span; page < limit; page += span) {
      if (!this.#load(table, page, height)) continue;
      if (this.#isLeaf(height)) {
        if (page < first || page + span > limit)
          throw new Error(`${this.#owner}: part of the block at page 0x${page.toString(16)} cannot be cleared`);
        this.#drop(table, page, height);
        continue;
      }
      const next = this.#address(0);
      this.#clear(next, height - 1, Math.max(first, page), Math.min(limit, page + span), emptied);
      if (this.#used.get(next) !== 0) continue;
      this.#drop(table, page, height);
      emptied.push(next);
    }
  }

  #drop(table: number, page: number, height: number): void {
    this.#write(table, page, height, 0, 0);
    this.#used.set(table, (this.#used.get(table) as number) - 1);
  }

  #store(table: number, page: number, height: number, hi: number, lo: number): void {
    if (!this.#load(table, page, height)) this.#used.set(table, (this.#used.get(table) as number) + 1);
    this.#write(table, page, height, hi, lo);
  }

  #write(table: number, page: number, height: number, hi: number, lo: number): void {
    const at = slot(table, page, height);
    this.environment.memory.store64(at, hi, lo);
    this.#report(at, height, hi, lo);
  }

  #exchange(table: number, page: number, height: number, hi: number, lo: number): boolean {
    const at = slot(table, page, height);
    if (!this.environment.memory.compareExchange64(at, this.#hi, this.#lo, hi, lo)) return false;
    this.#report(at, height, hi, lo);
    return true;
  }

  #report(address: number, height: number, hi: number, lo: number): void {
    const { trace } = this.environment;
    if (!trace.wants("table:written")) return;
    trace.emit("table:written", {
      by: this.#owner,
      table: this.entries.levelNames[height],
      address,
      value: join64(hi, lo),
    });
  }

  /** Reads an entry. @returns whether it is present */
  #load(table: number, page: number, height: number): boolean {
    const at = slot(table, page, height);
    this.#lo = this.environment.memory.load32(at) | 0;
    this.#hi = this.environment.memory.load32(at + 4) | 0;
    return (this.#lo & PRESENT) !== 0;
  }

  #isLeaf(height: number): boolean {
    return height === 0 || this.entries.isBlock(this.#lo);
  }

  /** Address in the entry read last; `height` is that of the block, 0 for a page or table. */
  #address(height: number): number {
    return physical(this.#hi & this.entries.addressHi, this.#lo & (-1 << (PAGE_SHIFT + 9 * height)));
  }
}

function heightOf(shift: PageShift): number {
  return (shift - PAGE_SHIFT) / 9;
}

function slot(table: number, page: number, height: number): number {
  return table + (Math.floor(page / SPAN[height]) % ENTRIES) * 8;
}
