/** An address space as a plain map of pages, each with the one byte that programs look at. */
import type { Prot } from "@iommukit/core";
import { FILE_PAGES, type MapKind, STACK_PAGES, STACK_TOP } from "./operations.js";

/** The bytes of one page: who shares the object shares the bytes. */
export interface Cell {
  value: number;
}

interface Page {
  read: boolean;
  write: boolean;
  exec: boolean;
  readonly shared: boolean;
  cell: Cell;
  /** Index in the file. */
  readonly index?: number;
  /** Private, and still the file's own page. */
  borrowed: boolean;
  readonly kind: MapKind;
}

export class ReferenceFile {
  cells: Cell[] = Array.from({ length: FILE_PAGES }, () => ({ value: 0 }));
  pages = FILE_PAGES;
}

export class ReferenceSpace {
  readonly pages = new Map<number, Page>();
  stack = STACK_TOP;

  constructor(readonly file: ReferenceFile) {
    this.growStack(STACK_TOP - 1);
  }

  growStack(page: number): void {
    while (this.stack > page && page >= STACK_TOP - STACK_PAGES) {
      this.stack--;
      const cell = { value: 0 };
      this.pages.set(this.stack, { ...rights("rw"), shared: false, cell, borrowed: false, kind: "anonymous" });
    }
  }

  map(page: number, count: number, prot: Prot, kind: MapKind, index: number): void {
    const ofFile = kind === "file" || kind === "sharedFile";
    for (let i = 0; i < count; i++) {
      this.pages.set(page + i, {
        ...rights(prot),
        shared: kind === "shared" || kind === "sharedFile",
        cell: (ofFile && this.file.cells[index + i]) || { value: 0 },
        index: ofFile ? index + i : undefined,
        borrowed: kind === "file",
        kind,
      });
    }
  }

  unmap(page: number, count: number): void {
    for (let i = 0; i < count; i++) this.pages.delete(page + i);
  }

  covers(page: number, count: number): boolean {
    for (let i = 0; i < count; i++) if (!this.pages.has(page + i)) return false;
    return true;
  }

  protect(page: number, count: number, prot: Prot): void {
    for (let i = 0; i < count; i++) Object.assign(this.at(page + i), rights(prot));
  }

  discard(page: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const at = this.at(page + i);
      if (at.shared) continue;
      at.borrowed = at.index !== undefined;
      at.cell = (at.index !== undefined && this.file.cells[at.index]) || { value: 0 };
    }
  }

  move(page: number, count: number, to: number, size: number): void {
    const moved = Array.from({ length: size }, (_, i): Page => {
      if (i < count) return this.at(page + i);
      return { ...this.at(page), cell: { value: 0 }, borrowed: false };
    });
    this.unmap(page, count);
    for (const [i, each] of moved.entries()) this.pages.set(to + i, each);
  }

  fork(): ReferenceSpace {
    const child = new ReferenceSpace(this.file);
    child.pages.clear();
    child.stack = this.stack;
    for (const [page, at] of this.pages)
      child.pages.set(page, at.shared || at.borrowed ? { ...at } : { ...at, cell: { ...at.cell } });
    return child;
  }

  /** Private pages that may be written are no longer the file's. */
  own(page: number, count: number): void {
    for (let i = page; i < page + count; i++) {
      const at = this.at(i);
      if (!at.borrowed || !this.writable(i)) continue;
      at.cell = { ...at.cell };
      at.borrowed = false;
    }
  }

  /** The file has got shorter or longer; cells beyond the end are new already. */
  fileChanged(): void {
    for (const at of this.pages.values()) {
      if (at.index === undefined || (at.index < this.file.pages && !at.borrowed && !at.shared)) continue;
      at.cell = this.file.cells[at.index] ?? { value: 0 };
      at.borrowed = !at.shared;
    }
  }

  readable(page: number): boolean {
    const at = this.pages.get(page);
    return at?.read === true && !this.#beyondEnd(at);
  }

  writable(page: number): boolean {
    const at = this.pages.get(page);
    return at?.write === true && !this.#beyondEnd(at);
  }

  /** Pages from there on that the access reaches. */
  reach(page: number, count: number, write: boolean): number {
    let reached = 0;
    while (reached < count && (write ? this.writable(page + reached) : this.readable(page + reached))) reached++;
    return reached;
  }

  value(page: number): number {
    return this.at(page).cell.value;
  }

  store(page: number, value: number): void {
    const at = this.at(page);
    if (at.borrowed) at.cell = { value };
    else at.cell.value = value;
    at.borrowed = false;
  }

  at(page: number): Page {
    const at = this.pages.get(page);
    if (!at) throw new Error(`the reference has no page ${page}`);
    return at;
  }

  #beyondEnd(at: Page): boolean {
    return at.index !== undefined && at.index >= this.file.pages && (at.shared || at.borrowed);
  }
}

function rights(prot: Prot): { read: boolean; write: boolean; exec: boolean } {
  return { read: prot.includes("r"), write: prot.includes("w"), exec: prot.includes("x") };
}
