/**
 * Physical pages for tables, queues and process memory. Deterministic: the run freed last is reused first. Every page has an
 * owner, so that a leak names who forgot it. Freed pages can be poisoned to make a use after free visible.
 */
import { IommuError } from "../kernel/errno.js";
import { token } from "../platform/token.js";
import type { Tracer } from "../trace/tracer.js";
import { PAGE_SIZE } from "./address.js";
import { FreeSpans } from "./free-spans.js";
import type { MemoryRegion, PhysicalMemory } from "./physical-memory.js";

/** Runs of physical pages, zeroed. Addresses are bytes; `owner` is named when it leaks. */
export interface PageAllocator {
  /**
   * `pages` contiguous zeroed pages, aligned to `align` bytes (default: the size rounded up to a power of two).
   * @param owner what they are for: "smmuv3 CD table", "pid 7 anon"
   * @throws IommuError ENOMEM when RAM is exhausted or a fault is injected
   */
  alloc(pages: number, owner: string, align?: number): number;
  free(pa: number): void;
  /** Pages in use, whoever owns them. */
  readonly inUse: number;
  /** Pages in use, by owner. Empty when nothing has leaked. */
  usage(): ReadonlyMap<string, number>;
  ownerOf(pa: number): string | undefined;
}
export const PageAllocator = token<PageAllocator>("PageAllocator");

/** For finding uses after free. */
export interface PageAllocatorOptions {
  /** Freed runs that are kept back: a run is given out again when so many others have been freed after it. None by default. */
  readonly quarantine?: number;
  /** Byte that fills freed pages; none by default. */
  readonly poison?: number;
  /** Asked before each allocation; true makes it fail with ENOMEM. */
  readonly failAlloc?: (owner: string) => boolean;
}

interface Run {
  readonly pages: number;
  readonly owner: string;
}

/** The board's PageAllocator. */
export class FirstFitPages implements PageAllocator {
  /** Freed runs by size: pages → addresses, reused last in, first out. */
  readonly #free = new Map<string, number[]>();
  readonly #used = new Map<number, Run>();
  readonly #usage = new Map<string, number>();
  readonly #left = new FreeSpans();
  readonly #quarantine: { readonly key: string; readonly pa: number }[] = [];
  inUse = 0;
  #region = 0;
  /** Page 0 is never given out: an address of 0 must stay recognisable as "none". */
  #next = PAGE_SIZE;

  constructor(
    private readonly memory: PhysicalMemory,
    private readonly regions: readonly MemoryRegion[] = memory.regions,
    private readonly options: PageAllocatorOptions = {},
    private readonly trace?: Tracer,
  ) {}

  alloc(pages: number, owner: string, align = PAGE_SIZE * nextPowerOfTwo(pages)): number {
    if (this.options.failAlloc?.(owner))
      throw new IommuError("ENOMEM", `no memory for ${owner} (${pages} pages; injected)`);
    const pa = this.#free.get(`${pages}/${align}`)?.pop() ?? this.#bump(pages, align) ?? this.#gather(pages, align);
    if (pa === undefined)
      throw new IommuError(
        "ENOMEM",
        `no memory for ${owner}: ${pages} contiguous pages, ${this.#used.size} runs in use`,
      );
    this.#used.set(pa, { pages, owner });
    this.inUse += pages;
    this.#usage.set(owner, (this.#usage.get(owner) ?? 0) + pages);
    this.#alignOf.set(pa, align);
    this.memory.fill(pa, pages * PAGE_SIZE, 0);
    if (this.trace?.enabled) this.trace.emit("page:allocated", { address: pa, pages, owner });
    return pa;
  }

  readonly #alignOf = new Map<number, number>();

  #bump(pages: number, align: number): number | undefined {
    while (this.#region < this.regions.length) {
      const { base, size } = this.regions[this.#region];
      const from = Math.max(this.#next, base);
      const pa = Math.ceil(from / align) * align;
      if (pa + pages * PAGE_SIZE <= base + size) {
        this.#left.add(from, pa);
        this.#next = pa + pages * PAGE_SIZE;
        return pa;
      }
      this.#left.add(from, base + size);
      this.#region++;
      this.#next = PAGE_SIZE;
    }
    return undefined;
  }

  /** Nothing is fresh any more: what alignment has left over, and what was freed in runs of another size. */
  #gather(pages: number, align: number): number | undefined {
    const left = this.#left.take(pages * PAGE_SIZE, align);
    if (left !== undefined || this.#free.size === 0) return left;
    for (const [key, runs] of this.#free) {
      const bytes = Number.parseInt(key, 10) * PAGE_SIZE;
      for (const pa of runs) this.#left.add(pa, pa + bytes);
    }
    this.#free.clear();
    return this.#left.take(pages * PAGE_SIZE, align);
  }

  free(pa: number): void {
    const run = this.#used.get(pa);
    if (!run) throw new Error(`free of page 0x${pa.toString(16)}, which is not allocated`);
    this.#used.delete(pa);
    this.inUse -= run.pages;
    const left = (this.#usage.get(run.owner) ?? 0) - run.pages;
    if (left > 0) this.#usage.set(run.owner, left);
    else this.#usage.delete(run.owner);
    if (this.options.poison !== undefined) this.memory.fill(pa, run.pages * PAGE_SIZE, this.options.poison);
    if (this.trace?.enabled) this.trace.emit("page:freed", { address: pa, ...run });
    this.#quarantine.push({ key: `${run.pages}/${this.#alignOf.get(pa)}`, pa });
    if (this.#quarantine.length > (this.options.quarantine ?? 0)) this.#release();
  }

  #release(): void {
    const oldest = this.#quarantine.shift();
    if (oldest === undefined) return;
    const list = this.#free.get(oldest.key);
    if (list) list.push(oldest.pa);
    else this.#free.set(oldest.key, [oldest.pa]);
  }

  ownerOf(pa: number): string | undefined {
    return this.#used.get(pa)?.owner;
  }

  usage(): ReadonlyMap<string, number> {
    return new Map(this.#usage);
  }
}

function nextPowerOfTwo(count: number): number {
  return count <= 1 ? 1 : 2 ** (32 - Math.clz32(count - 1));
}
