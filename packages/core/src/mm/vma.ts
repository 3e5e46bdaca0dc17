/** vm_area_struct: a range of pages with equal rights and one origin. */
import type { Backing } from "./backing.js";
import type { VmaInfo } from "./mm.js";
import { addressOf } from "./page-number.js";

/** What a file needs of the address space that maps it. */
export interface VmaOwner {
  /** Takes the pages of that part of the file out, wherever they are mapped by now. Indexes are pages of the file. */
  zap(backing: Backing, firstIndex: number, limitIndex: number): Promise<void>;
}

/** What `mmap` sets and `mprotect` changes. */
export interface VmaFields {
  readonly owner: VmaOwner;
  first: number;
  limit: number;
  read: boolean;
  write: boolean;
  exec: boolean;
  shared: boolean;
  name: string;
  /** mprotect may make it writable. */
  mayWrite: boolean;
  /** File or device; undefined for private anonymous memory. */
  backing: Backing | undefined;
  /** Page of the backing at `first`. */
  offset: number;
  /** A stack. */
  growsDown: boolean;
  locked: boolean;
  /** madvise(MADV_HUGEPAGE, MADV_NOHUGEPAGE). */
  hugePages: "default" | "always" | "never";
  dontFork: boolean;
}

const EQUAL_TO_MERGE = [
  "owner",
  "read",
  "write",
  "exec",
  "shared",
  "name",
  "mayWrite",
  "backing",
  "growsDown",
  "locked",
  "hugePages",
  "dontFork",
] as const satisfies readonly (keyof VmaFields)[];

/** A mapping of a simulated process. */
export class Vma implements VmaInfo, VmaFields {
  readonly owner: VmaOwner;
  first: number;
  limit: number;
  read: boolean;
  write: boolean;
  exec: boolean;
  shared: boolean;
  name: string;
  mayWrite: boolean;
  backing: Backing | undefined;
  offset: number;
  growsDown: boolean;
  locked: boolean;
  hugePages: "default" | "always" | "never";
  dontFork: boolean;

  constructor(fields: VmaFields) {
    this.owner = fields.owner;
    this.first = fields.first;
    this.limit = fields.limit;
    this.read = fields.read;
    this.write = fields.write;
    this.exec = fields.exec;
    this.shared = fields.shared;
    this.name = fields.name;
    this.mayWrite = fields.mayWrite;
    this.backing = fields.backing;
    this.offset = fields.offset;
    this.growsDown = fields.growsDown;
    this.locked = fields.locked;
    this.hugePages = fields.hugePages;
    this.dontFork = fields.dontFork;
    this.backing?.attach(this);
  }

  get start(): bigint {
    return addressOf(this.first);
  }

  get end(): bigint {
    return addressOf(this.limit);
  }

  get pages(): number {
    return this.limit - this.first;
  }

  get accessible(): boolean {
    return this.read || this.write || this.exec;
  }

  /** Page of the backing that a page shows. */
  indexOf(page: number): number {
    return this.offset + page - this.first;
  }

  /** The same mapping with some fields changed; `offset` follows `first` unless given. */
  clone(changes: Partial<VmaFields>): Vma {
    const first = changes.first ?? this.first;
    const offset = first >= this.first && first < this.limit ? this.indexOf(first) : this.offset;
    return new Vma({ ...(this as VmaFields), offset, ...changes });
  }

  /** Out of use. */
  close(): void {
    this.backing?.detach(this);
  }

  continues(before: Vma): boolean {
    if (before.limit !== this.first || EQUAL_TO_MERGE.some((field) => before[field] !== this[field])) return false;
    return this.backing === undefined || before.indexOf(this.first) === this.offset;
  }
}
