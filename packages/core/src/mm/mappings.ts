/**
 * What is resident in one address space, the page tables that show it, and who hears when it changes. Here is the one
 * place that keeps the order of an unmap (I-7): entries cleared in every format, then the notifiers, each awaited, and
 * only then pages and tables freed. An entry may be missing from a table at any time: a fault brings it back. So a
 * table that cannot grow never makes an operation fail half-way.
 *
 * Callers hold the address space's mmap_lock. Pages are numbers, ranges are [first, limit).
 */
import { isErrno } from "../kernel/errno.js";
import type { Scheduler } from "../kernel/scheduler.js";
import { PAGE_SIZE } from "../memory/address.js";
import { Hull } from "./hull.js";
import type { Mm } from "./mm.js";
import { NotifierList } from "./notifier-list.js";
import { addressOf, BLOCK_PAGES, blockOf } from "./page-number.js";
import { PageFlag, type PageTableFormat } from "./page-table/page-table.js";
import type { TableEnvironment, TableWriter } from "./page-table/table-writer.js";
import { type ResidentPage, ResidentPages } from "./resident-pages.js";

/** TableEnvironment, and who runs what has to wait. */
export interface MappingsEnvironment extends TableEnvironment {
  readonly scheduler: Scheduler;
}

/** One address space's residents, tables and notifiers. */
export class Mappings {
  readonly pages = new ResidentPages();
  readonly notifiers: NotifierList;
  readonly #tables = new Map<PageTableFormat, TableWriter>();

  /** @param free takes a page that nothing can reach any more through this address space */
  constructor(
    private readonly environment: MappingsEnvironment,
    private readonly mm: Mm,
    private readonly free: (pa: number) => void,
  ) {
    this.notifiers = new NotifierList(mm, environment.trace);
  }

  /** The table of a format; `make` gives an empty one on first demand. @throws IommuError ENOMEM */
  table(format: PageTableFormat, make: () => TableWriter): TableWriter {
    const existing = this.#tables.get(format);
    if (existing) return existing;
    const table = make();
    try {
      this.pages.forEach(0, Number.POSITIVE_INFINITY, (page, resident) => {
        if (!resident.hidden && (page === blockOf(page) || !this.pages.inBlock(page))) this.#map(table, page, resident);
      });
    } catch (error) {
      table.destroy();
      throw error;
    }
    this.#tables.set(format, table);
    return table;
  }

  get tables(): Iterable<TableWriter> {
    return this.#tables.values();
  }

  /** A page becomes resident. @throws IommuError ENOMEM when a table cannot grow; the page is resident all the same */
  add(page: number, pa: number, flags: number): void {
    const resident = { pa, flags, hidden: false };
    this.pages.set(page, resident);
    for (const table of this.#tables.values()) this.#map(table, page, resident);
  }

  /** 2 MiB become resident as one block; nothing of them was. */
  addBlock(first: number, pa: number, flags: number): void {
    this.#setBlock(first, pa, flags, false);
    this.#tryShow(first);
  }

  /** Brings a resident page's entry into every table, or up to date there. @throws IommuError ENOMEM */
  show(page: number): void {
    const resident = this.pages.get(page);
    if (!resident || resident.hidden) return;
    for (const table of this.#tables.values()) {
      if (table.change(page, page + 1, resident.flags, 0) === 0) this.#map(table, page, resident);
    }
  }

  /** Sets access and dirty flags as the processor's walker does: in place, nobody hears of it. */
  mark(page: number, flags: number): void {
    const resident = this.pages.get(page);
    if (!resident || (resident.flags & flags) === flags) return;
    resident.flags |= flags;
    for (const table of this.#tables.values()) table.change(page, page + 1, flags, 0);
  }

  /** Changes flags, in pages and tables; blocks lie inside. Notifies when an entry lost or gained rights. */
  async update(first: number, limit: number, set: number, clear: number): Promise<void> {
    const touched = new Hull();
    this.pages.forEach(first, limit, (page, resident) => {
      const next = (resident.flags | set) & ~clear;
      if (next === resident.flags) return;
      resident.flags = next;
      if (!resident.hidden) touched.add(page);
    });
    if (touched.empty) return;
    for (const table of this.#tables.values()) table.change(touched.first, touched.limit, set, clear);
    await this.#notify(touched);
  }

  /** Takes pages out for good and frees them when everybody has been told. */
  async remove(first: number, limit: number): Promise<void> {
    await this.splitAt(first);
    await this.splitAt(limit);
    const cleared = new Hull();
    const freed: number[] = [];
    this.pages.forEach(first, limit, (page, resident) => {
      freed.push(resident.pa);
      if (!resident.hidden) cleared.add(page);
      this.pages.delete(page);
    });
    await this.#withdraw(cleared);
    for (const pa of freed) this.free(pa);
  }

  /** Moves pages to other addresses (mremap): the old entries are gone for everybody before the new ones appear. */
  async move(first: number, limit: number, to: number): Promise<void> {
    await this.splitAt(first);
    await this.splitAt(limit);
    const moved: [page: number, resident: ResidentPage, block: boolean][] = [];
    if ((to - first) % BLOCK_PAGES !== 0) {
      for (let page = blockOf(first); page < limit; page += BLOCK_PAGES) await this.split(page);
    }
    const cleared = new Hull();
    this.pages.forEach(first, limit, (page, resident) => {
      moved.push([page - first + to, resident, this.pages.inBlock(page)]);
      if (!resident.hidden) cleared.add(page);
    });
    for (const [page] of moved) this.pages.delete(page - to + first);
    await this.#withdraw(cleared);
    for (const [page, resident, block] of moved) {
      this.pages.set(page, resident);
      if (block) this.pages.setBlock(page, true);
    }
    for (const [page, , block] of moved) if (!block || page === blockOf(page)) this.#tryShow(page);
  }

  /** PROT_NONE and back: the pages stay, their entries go. */
  async hide(first: number, limit: number): Promise<void> {
    const cleared = new Hull();
    this.pages.forEach(first, limit, (page, resident) => {
      if (resident.hidden) return;
      resident.hidden = true;
      cleared.add(page);
    });
    await this.#withdraw(cleared);
  }

  unhide(first: number, limit: number): void {
    this.pages.forEach(first, limit, (page, resident) => {
      if (!resident.hidden) return;
      resident.hidden = false;
      this.#tryShow(page);
    });
  }

  /**
   * Another page takes a resident page's place (copy-on-write, KSM). Break before make: the old entry is gone for
   * everybody before `fill` runs and the new one appears.
   */
  async replace(page: number, pa: number, flags: number, fill: () => void): Promise<void> {
    const resident = this.pages.get(page);
    if (!resident) throw new Error(`${this.mm.owner}: page 0x${page.toString(16)} is not resident`);
    const old = resident.pa;
    if (!resident.hidden) await this.#withdraw(new Hull(page, page + 1));
    fill();
    resident.pa = pa;
    resident.flags = flags;
    this.#tryShow(page);
    await this.notifiers.changePte(page);
    this.free(old);
  }

  /** A block becomes 512 pages. Nothing is copied. */
  async split(page: number): Promise<void> {
    if (!this.pages.inBlock(page)) return;
    const first = blockOf(page);
    const resident = this.pages.get(first) as ResidentPage;
    this.pages.setBlock(first, false);
    if (resident.hidden) return;
    await this.#withdraw(new Hull(first, first + BLOCK_PAGES));
    for (const table of this.#tables.values()) {
      unlessNoMemory(() => table.mapSplit(first, resident.pa, resident.flags, 21));
    }
  }

  /** Splits the block that lies across the border before `page`. */
  async splitAt(page: number): Promise<void> {
    if (page !== blockOf(page)) await this.split(page);
  }

  /** 512 pages, some perhaps not resident, become one block at `pa`; `fill` copies when nobody writes any more. */
  async collapse(first: number, pa: number, flags: number, fill: () => void): Promise<void> {
    const freed: number[] = [];
    this.pages.forEach(first, first + BLOCK_PAGES, (_page, resident) => {
      freed.push(resident.pa);
      // Until the block is there the pages stay resident, but nobody reaches them.
      resident.hidden = true;
    });
    await this.#withdraw(new Hull(first, first + BLOCK_PAGES));
    fill();
    this.#setBlock(first, pa, flags, false);
    this.#tryShow(first);
    for (const old of freed) this.free(old);
  }

  /** Clears access flags everywhere. @returns whether a page had been accessed since the last time */
  async age(first: number, limit: number): Promise<boolean> {
    let seen = 0;
    const present = new Hull();
    this.pages.forEach(first, limit, (page, resident) => {
      seen |= resident.flags;
      resident.flags &= ~PageFlag.ACCESSED;
      if (!resident.hidden) present.add(page);
    });
    if (present.empty) return (seen & PageFlag.ACCESSED) !== 0;
    for (const table of this.#tables.values()) seen |= table.change(present.first, present.limit, 0, PageFlag.ACCESSED);
    const young = await this.notifiers.clearFlushYoung(present.first, present.limit);
    return young || (seen & PageFlag.ACCESSED) !== 0;
  }

  destroy(): void {
    for (const table of this.#tables.values()) table.destroy();
    this.#tables.clear();
  }

  #setBlock(first: number, pa: number, flags: number, hidden: boolean): void {
    for (let i = 0; i < BLOCK_PAGES; i++) this.pages.set(first + i, { pa: pa + i * PAGE_SIZE, flags, hidden });
    this.pages.setBlock(first, true);
  }

  #map(table: TableWriter, page: number, resident: ResidentPage): void {
    if (this.pages.inBlock(page)) {
      const first = this.pages.get(blockOf(page)) as ResidentPage;
      table.map(blockOf(page), first.pa, first.flags, 21);
    } else {
      table.map(page, resident.pa, resident.flags);
    }
  }

  #tryShow(page: number): void {
    unlessNoMemory(() => this.show(page));
  }

  /** Clears the entries, tells everybody, and frees the tables that this emptied. */
  async #withdraw(range: Hull): Promise<void> {
    if (range.empty) return;
    const emptied = [...this.#tables.values()].map((table) => {
      const tables: number[] = [];
      table.clear(range.first, range.limit, tables);
      return { table, tables };
    });
    const { trace } = this.environment;
    if (trace.enabled) {
      trace.emit("mm:unmapped", { mm: this.mm.id, start: addressOf(range.first), end: addressOf(range.limit) });
    }
    await this.#notify(range);
    if (trace.enabled) {
      trace.emit("mm:notified", { mm: this.mm.id, start: addressOf(range.first), end: addressOf(range.limit) });
    }
    for (const { table, tables } of emptied) table.release(tables);
  }

  async #notify(range: Hull): Promise<void> {
    await this.environment.scheduler.point(`mm ${this.mm.id}: entries changed`);
    await this.notifiers.invalidateRange(range.first, range.limit);
    await this.environment.scheduler.point(`mm ${this.mm.id}: notified`);
  }
}

/** For entries that a fault can bring back later. */
function unlessNoMemory(put: () => void): void {
  try {
    put();
  } catch (error) {
    if (!isErrno(error, "ENOMEM")) throw error;
  }
}
