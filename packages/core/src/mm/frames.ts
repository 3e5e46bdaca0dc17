/**
 * struct page: who holds each page of process memory. A page is free again when nobody maps it, has it pinned or caches
 * it for a file. Memory without a frame (a device's registers) is held by nobody and is left alone.
 */

import { PAGE_SIZE } from "../memory/address.js";
import type { PageAllocator } from "../memory/page-allocator.js";
import { BLOCK_PAGES } from "./page-number.js";

/** Why a page is held: mapped by an address space, pinned for DMA, or part of a file. */
export type Hold = "mappings" | "pins" | "caches";

/** One allocation; a block's pages go back together. */
interface Run {
  readonly pa: number;
  readonly owner: string;
  readonly pages: number;
  live: number;
}

export class Frame {
  mappings = 0;
  pins = 0;
  caches = 0;

  constructor(
    readonly pa: number,
    readonly run: Run,
  ) {}

  get held(): boolean {
    return this.mappings + this.pins + this.caches > 0;
  }
}

export class Frames {
  readonly #frames = new Map<number, Frame>();
  #zero: number | undefined;

  constructor(private readonly pages: PageAllocator) {}

  /** A zeroed page, held once. @throws IommuError ENOMEM */
  alloc(owner: string, hold: Hold): number {
    const pa = this.pages.alloc(1, owner);
    this.#create({ pa, owner, pages: 1, live: 1 }, pa)[hold]++;
    return pa;
  }

  /** 512 zeroed contiguous pages, each held once. @throws IommuError ENOMEM */
  allocBlock(owner: string, hold: Hold): number {
    const run = { pa: this.pages.alloc(BLOCK_PAGES, owner), owner, pages: BLOCK_PAGES, live: BLOCK_PAGES };
    for (let i = 0; i < BLOCK_PAGES; i++) this.#create(run, run.pa + i * PAGE_SIZE)[hold]++;
    return run.pa;
  }

  #create(run: Run, pa: number): Frame {
    const frame = new Frame(pa, run);
    this.#frames.set(pa, frame);
    return frame;
  }

  /** The shared zero page, held once more. @throws IommuError ENOMEM */
  zeroPage(hold: Hold): number {
    if (this.#zero === undefined) this.#zero = this.alloc("zero page", hold);
    else this.hold(this.#zero, hold);
    return this.#zero;
  }

  isZeroPage(pa: number): boolean {
    return pa === this.#zero;
  }

  /** pfn_to_page; undefined where no struct page is. */
  at(pa: number): Frame | undefined {
    return this.#frames.get(pa);
  }

  hold(pa: number, hold: Hold): void {
    const frame = this.#frames.get(pa);
    if (frame) frame[hold]++;
  }

  drop(pa: number, hold: Hold): void {
    const frame = this.#frames.get(pa);
    if (!frame) return;
    if (frame[hold] === 0)
      throw new Error(`page 0x${pa.toString(16)} of ${frame.run.owner}: more ${hold} dropped than held`);
    frame[hold]--;
    if (!frame.held) this.#free(frame);
  }

  #free(frame: Frame): void {
    const { run } = frame;
    this.#frames.delete(frame.pa);
    if (frame.pa === this.#zero) this.#zero = undefined;
    if (--run.live > 0) return;
    this.pages.free(run.pa);
  }

  /** Whether only one mapping holds the page's bytes: its owner may write them in place. */
  isExclusive(pa: number): boolean {
    const frame = this.#frames.get(pa);
    return frame !== undefined && frame.mappings === 1 && frame.caches === 0 && pa !== this.#zero;
  }
}
