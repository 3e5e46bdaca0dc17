/** The same address space behind both chips, in one RAM: page tables scattered over 256 MiB, one process, four devices. */
import {
  bareBoard,
  createVmsav8Table,
  createX86Table,
  hiOf,
  loOf,
  type MemoryRegion,
  PAGE_SIZE,
  type PageAllocator,
  PageFlag,
  SlabMemory,
  type TranslationPort,
} from "@iommukit/core";
import { PRESETS as SMMU_PRESETS } from "@iommukit/iommu-smmuv3";
import { PRESETS as VTD_PRESETS } from "@iommukit/iommu-vtd";
import { rootTable, startSmmuv3, startVtd, streamTable } from "./configuration.js";
import { type Case, FIRST_RID, PASID, RIDS, VA_BASE_HI } from "./stream.js";

export const RAM: MemoryRegion = { base: 0x1_0000_0000, size: 0x1000_0000 };
const RAM_PAGES = RAM.size / PAGE_SIZE;

/** Gives pages in an order that looks random: multiplication by an odd number permutes the page numbers. */
class ScatteredPages implements PageAllocator {
  #next = 1;
  readonly used: number[] = [];

  get inUse(): number {
    return this.used.length;
  }

  alloc(): number {
    const pa = RAM.base + ((Math.imul(this.#next++, 40_503) >>> 0) % RAM_PAGES) * PAGE_SIZE;
    this.used.push(pa);
    return pa;
  }

  free(): void {}

  usage(): ReadonlyMap<string, number> {
    return new Map();
  }

  ownerOf(): undefined {
    return undefined;
  }
}

export type Arch = "smmuv3" | "vtd";

export class Machine {
  readonly memory = new SlabMemory([RAM]);
  readonly pages = new ScatteredPages();
  readonly #board = bareBoard(this.memory);
  readonly trace = this.#board.trace;
  readonly roots: Readonly<Record<Arch, number>>;

  /** @param footprint pages that are mapped from VA_BASE up */
  constructor(footprint: number) {
    const environment = { memory: this.memory, pages: this.pages, trace: this.trace };
    const arm = createVmsav8Table(environment, "bench");
    const x86 = createX86Table(environment, "bench", 4);
    const flags = PageFlag.WRITE | PageFlag.USER | PageFlag.ACCESSED | PageFlag.DIRTY;
    const first = VA_BASE_HI * 2 ** 20;
    for (let page = 0; page < footprint; page++) {
      // The bytes are never touched: any address will do.
      const pa = 0x10_0000_0000 + ((Math.imul(page, 2_654_435_761) >>> 0) % 0x100_0000) * PAGE_SIZE;
      arm.map(first + page, pa, flags);
      x86.map(first + page, pa, flags);
    }
    // Every table fits in a page.
    const requesters = {
      memory: this.memory,
      alloc: () => this.pages.alloc(),
      first: FIRST_RID,
      count: RIDS,
      pasids: PASID,
    };
    this.roots = { smmuv3: streamTable(requesters, arm.root, arm.mair), vtd: rootTable(requesters, x86.root) };
  }

  /** The chip with the caches that a case wants, translating. */
  chip(arch: Arch, kind: Case["kind"]): TranslationPort {
    return arch === "smmuv3" ? this.#smmuv3(kind) : this.#vtd(kind);
  }

  #smmuv3(kind: Case["kind"]): TranslationPort {
    const none = { sets: 0, ways: 0 };
    const config = kind === "cold" ? none : { sets: 64, ways: 4 };
    const tlb = kind === "hit" ? { sets: 64, ways: 8 } : none;
    const preset = SMMU_PRESETS["mmu-700-like"];
    const caches = { ...preset.caches, ste: config, cd: config, l1: none, walk: none, tlb };
    return startSmmuv3(this.#board, { ...preset, caches }, this.roots.smmuv3, 6);
  }

  #vtd(kind: Case["kind"]): TranslationPort {
    const preset = VTD_PRESETS["sapphire-rapids-like"];
    const config = kind === "cold" ? 0 : 256;
    // IOTLB entries belong to one device: eight of them need eight times the entries of the baseline.
    const iotlb = kind === "hit" ? 512 * RIDS : 0;
    const caches = { ...preset.caches, context: config, pasid: config, pagingStructure: 0, iotlb };
    return startVtd(this.#board, { ...preset, caches }, this.roots.vtd);
  }

  /** What the C walker reads: the pages in use, at their offsets in RAM. */
  image(write: (offset: number, bytes: Uint8Array) => void): void {
    const page = new Uint8Array(PAGE_SIZE);
    for (const pa of this.pages.used) {
      const words = this.memory.view(hiOf(pa), loOf(pa), PAGE_SIZE / 4);
      if (words === null) throw new Error(`page 0x${pa.toString(16)} is not RAM`);
      page.set(new Uint8Array(words.buffer, this.memory.viewAt * 4, PAGE_SIZE));
      write(pa - RAM.base, page);
    }
  }
}
