/**
 * struct page: who holds each page of process memory. A page is free again when nobody maps it, has it pinned or caches
 * it for a file. Memory without a frame (a device's registers) is held by nobody and is left alone.
 */

import { PAGE_SIZE } from "../memory/address.js";
import type { PageAllocator } from "../memory/page-allocator.js";
import { BLOCK_PAGES, BLOCK_SIZE } from "./page-number.js";

/** Why a page is held: mapped by an address space, pinned for DMA, or part of a file. */
export type Hold = "mappings" | "pins" | "caches";

/** One allocation; a block's pages go back together. */
interface Run {
  readonly pa: number;
  readonly owner: string;
  readonly pages: number;
  live: number;
}

/** One page's holders. */
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

/** The pages of 2 MiB of memory by their place, and how many of them have a frame. */
interface Section {
  readonly frames: (Frame | undefined)[];
  live: number;
}

/** The frames of a platform, by physical address. */
export class Frames {
  /** By number of 2 MiB: neighbours are found without a search for each, which would miss the processor's caches. */
  readonly #sections = new Map<number, Section>();
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
    const key = sectionOf(pa);
    const section = this.#sections.get(key) ?? { frames: new Array<undefined>(BLOCK_PAGES).fill(undefined), live: 0 };
    if (section.live++ === 0) this.#sections.set(key, section);
    section.frames[placeOf(pa)] = frame;
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
    return this.#sections.get(sectionOf(pa))?.frames[placeOf(pa)];
  }

  hold(pa: number, hold: Hold): void {
    const frame = this.at(pa);
    if (frame) frame[hold]++;
  }

  drop(pa: number, hold: Hold): void {
    const frame = this.at(pa);
    if (!frame) return;
    if (frame[hold] === 0)
      throw new Error(`page 0x${pa.toString(16)} of ${frame.run.owner}: more ${hold} dropped than held`);
    frame[hold]--;
    if (!frame.held) this.#free(frame);
  }

  #free(frame: Frame): void {
    const { run, pa } = frame;
    const section = this.#sections.get(sectionOf(pa)) as Section;
    section.frames[placeOf(pa)] = undefined;
    if (--section.live === 0) this.#sections.delete(sectionOf(pa));
    if (pa === this.#zero) this.#zero = undefined;
    if (--run.live > 0) return;
    this.pages.free(run.pa);
  }

  /** Whether only one mapping holds the page's bytes: its owner may write them in place. */
  isExclusive(pa: number): boolean {
    const frame = this.at(pa);
    return frame !== undefined && this.#isOnlyMapped(frame);
  }

  /** Whether others see the page's bytes: who is to write them needs a copy first. */
  isShared(pa: number): boolean {
    const frame = this.at(pa);
    return frame !== undefined && !this.#isOnlyMapped(frame);
  }

  #isOnlyMapped({ pa, mappings, caches }: Frame): boolean {
    return mappings === 1 && caches === 0 && pa !== this.#zero;
  }
}

function sectionOf(pa: number): number {
  return Math.floor(pa / BLOCK_SIZE);
}

function placeOf(pa: number): number {
  return (pa / PAGE_SIZE) & (BLOCK_PAGES - 1);
}
