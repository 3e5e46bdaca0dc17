/**
 * The page tables that the driver makes for DMA and unmanaged domains: what Linux's io-pgtable-arm writes, word for word.
 * DDI0487 D8.2-D8.3 gives the format (G18, G19). A mapping may replace a table (which is freed), never another
 * mapping; a block is never split. Left out: dirty-bit reading and the contiguous hint, which Linux does not write either.
 */
import {
  hex,
  hi32,
  hiOf,
  IommuError,
  IommuProt,
  type IotlbGather,
  lo32,
  loOf,
  type PhysicalMemory,
  physical,
} from "@iommukit/core";
import { LeafAttributes, TableDescriptor } from "./page-table-descriptors.js";
import {
  MAX_LEVELS,
  type PageTableConfig,
  type PageTableGeometry,
  PageTableQuirk,
  pageTableGeometry,
} from "./page-table-geometry.js";
import { PageTableLevels } from "./page-table-levels.js";

/** Where tables come from. `bytes` is at least 64 and a power of two; tables are zeroed and aligned to their size. */
export interface TablePages {
  /** @throws IommuError ENOMEM */
  alloc(bytes: number): number;
  free(pa: number, bytes: number): void;
}

/** iommu_flush_ops: what has to leave the TLBs. */
export interface PageTableFlush {
  /** `count` leaf entries of `granule` bytes from `iova` on were cleared. */
  addPages(gather: IotlbGather, iova: bigint, granule: number, count: number): void;
  /** A table that translated `size` bytes at `iova` is cut off: leaf entries and cached walks; its pages are freed next. */
  flushWalk(iova: bigint, size: number, granule: number): void;
}

const LAST_LEVEL = MAX_LEVELS - 1;

/** Address bits below a block's size are RES0 in its descriptor; where a caller left some, Linux answers with both. */
function within(base: number, offset: number): number {
  return physical(hiOf(base) | hiOf(offset), loOf(base) | loOf(offset));
}

/** io_pgtable_ops: map, unmap, iova_to_phys. */
export class IoPageTable {
  readonly geometry: PageTableGeometry;
  /** Physical address of the first table: TTB0 or S2TTB. */
  readonly root: number;
  readonly #levels: PageTableLevels;
  readonly #leaves: LeafAttributes;
  readonly #tables: TableDescriptor;
  /** Output addresses are below this. */
  readonly #outputs: number;

  /**
   * @param warn called where Linux prints a WARN: a caller's mistake that is answered with an error or with 0
   * @throws IommuError EINVAL for a configuration without a table, ENOMEM
   */
  constructor(
    config: PageTableConfig,
    private readonly memory: PhysicalMemory,
    private readonly pages: TablePages,
    private readonly flush: PageTableFlush,
    private readonly warn: (reason: string) => void = () => {},
  ) {
    this.geometry = pageTableGeometry(config);
    this.#levels = new PageTableLevels(this.geometry);
    this.#outputs = 2 ** this.geometry.oas;
    this.#leaves = new LeafAttributes(config);
    this.#tables = new TableDescriptor(this.geometry);
    this.root = pages.alloc(this.#levels.bytes(this.geometry.startLevel));
  }

  /**
   * Maps up to `count` pages, as many as stand in one table.
   * @returns bytes mapped
   * @throws IommuError EINVAL size not in the bitmap, or neither READ nor WRITE; ERANGE address too wide; EEXIST over a
   *   mapping; ENOMEM no page for a table. Nothing is mapped then.
   */
  map(iova: bigint, pa: number, pgsize: number, count: number, prot: number): number {
    const hi = hi32(iova);
    const lo = lo32(iova);
    if (!this.#levels.takes(pgsize)) {
      this.warn(`map of ${hex(pgsize)} bytes`);
      throw new IommuError("EINVAL", `${hex(pgsize)} is not among the page sizes ${hex(this.geometry.pgsizeBitmap)}`);
    }
    if (!this.#levels.inRange(hi, lo) || pa >= this.#outputs) {
      this.warn(`map of ${hex(iova)} to ${hex(pa)}`);
      throw new IommuError(
        "ERANGE",
        `${hex(iova)} → ${hex(pa)} leaves ${this.geometry.ias} bits in, ${this.geometry.oas} bits out`,
      );
    }
    if ((prot & (IommuProt.READ | IommuProt.WRITE)) === 0) {
      throw new IommuError(
        "EINVAL",
        `a mapping at ${hex(iova)} that allows neither reads nor writes (prot ${hex(prot)})`,
      );
    }
    let table = this.root;
    for (let level = this.geometry.startLevel; level < MAX_LEVELS; level++) {
      const index = this.#levels.index(hi, lo, level);
      if (pgsize === this.#levels.size(level)) return this.#install(table, index, level, iova, pa, count, prot);
      if (level < LAST_LEVEL) table = this.#descend(table + 8 * index, level, iova);
    }
    this.warn(`map of ${hex(pgsize)} bytes`);
    throw new IommuError("EINVAL", `no level of the table has entries of ${hex(pgsize)} bytes`);
  }

  /**
   * Unmaps up to `count` pages, as many as stand in one table and are mapped. Pages of tables that are no longer needed
   * are freed. @returns bytes unmapped; 0 when nothing is mapped at `iova` or only a larger block
   */
  unmap(iova: bigint, pgsize: number, count: number, gather?: IotlbGather): number {
    const hi = hi32(iova);
    const lo = lo32(iova);
    if (!this.#levels.takes(pgsize) || count === 0 || !this.#levels.inRange(hi, lo)) {
      this.warn(`unmap of ${count} × ${hex(pgsize)} bytes at ${hex(iova)}`);
      return 0;
    }
    let table = this.root;
    for (let level = this.geometry.startLevel; level < MAX_LEVELS; level++) {
      const index = this.#levels.index(hi, lo, level);
      const entry = table + 8 * index;
      const low = this.memory.load32(entry) | 0;
      const high = this.memory.load32(entry + 4) | 0;
      if ((low | high) === 0) {
        this.#unmapped(iova);
        return 0;
      }
      if (pgsize === this.#levels.size(level)) return this.#clear(entry, index, level, iova, count, gather);
      if (this.#tables.isLeaf(low, level)) {
        this.warn(`unmap of part of the block at ${hex(iova)}`);
        return 0;
      }
      table = this.#tables.target(high, low);
    }
    return 0;
  }

  iovaToPhys(iova: bigint): number | undefined {
    const hi = hi32(iova);
    const lo = lo32(iova);
    let table = this.root;
    for (let level = this.geometry.startLevel; level < MAX_LEVELS; level++) {
      const entry = table + 8 * this.#levels.index(hi, lo, level);
      const low = this.memory.load32(entry) | 0;
      const high = this.memory.load32(entry + 4) | 0;
      if (this.#tables.isLeaf(low, level)) {
        return within(this.#tables.target(high, low), Number(iova & (BigInt(this.#levels.size(level)) - 1n)));
      }
      if (!this.#tables.isTable(low, level)) return undefined;
      table = this.#tables.target(high, low);
    }
    return undefined;
  }

  /** Gives every table back. Nobody walks them any more. */
  free(): void {
    this.#freeTree(this.root, this.geometry.startLevel);
  }

  /** Bytes of the whole input range: 2^ias. */
  get size(): bigint {
    return 1n << BigInt(this.geometry.ias);
  }

  /** The table below an entry, made when there is none. */
  #descend(entry: number, level: number, iova: bigint): number {
    const low = this.memory.load32(entry) | 0;
    const high = this.memory.load32(entry + 4) | 0;
    if ((low | high) === 0) {
      const table = this.pages.alloc(this.geometry.granule);
      this.#tables.store(this.memory, entry, table);
      return table;
    }
    if (this.#tables.isLeaf(low, level)) this.#refuseSecond(iova);
    return this.#tables.target(high, low);
  }

  #install(table: number, index: number, level: number, iova: bigint, pa: number, count: number, prot: number): number {
    const entries = this.#levels.inTable(index, count);
    const size = this.#levels.size(level);
    const first = table + 8 * index;
    for (let i = 0; i < entries; i++) {
      const low = this.memory.load32(first + 8 * i) | 0;
      if (this.#tables.isLeaf(low, level)) this.#refuseSecond(iova + BigInt(i * size));
      if (this.#tables.isTable(low, level)) this.#clear(first + 8 * i, index + i, level, iova + BigInt(i * size), 1);
    }
    this.#leaves.select(prot, level === LAST_LEVEL);
    for (let i = 0; i < entries; i++) {
      const target = pa + i * size;
      const lo = this.#tables.lowAddress(target) | this.#leaves.lo;
      this.memory.store64(first + 8 * i, this.#tables.highAddress(target) | this.#leaves.hi, lo);
    }
    return entries * size;
  }

  #refuseSecond(iova: bigint): never {
    if ((this.geometry.config.quirks & PageTableQuirk.NO_WARN) === 0) this.warn(`map over a mapping at ${hex(iova)}`);
    throw new IommuError("EEXIST", `${hex(iova)} is mapped already`);
  }

  #unmapped(iova: bigint): void {
    if ((this.geometry.config.quirks & PageTableQuirk.NO_WARN) === 0)
      this.warn(`unmap of ${hex(iova)}, which is not mapped`);
  }

  #clear(entry: number, index: number, level: number, iova: bigint, count: number, gather?: IotlbGather): number {
    const size = this.#levels.size(level);
    const entries = this.#levels.inTable(index, count);
    let done = 0;
    for (; done < entries; done++) {
      const at = entry + 8 * done;
      const low = this.memory.load32(at) | 0;
      const high = this.memory.load32(at + 4) | 0;
      if ((low | high) === 0) {
        this.#unmapped(iova + BigInt(done * size));
        break;
      }
      if (this.#tables.isLeaf(low, level)) continue;
      this.memory.store64(at, 0, 0);
      this.flush.flushWalk(iova + BigInt(done * size), size, this.geometry.granule);
      this.#freeTree(this.#tables.target(high, low), level + 1);
    }
    for (let i = 0; i < done; i++) this.memory.store64(entry + 8 * i, 0, 0);
    if (gather && !gather.queued && done > 0) this.flush.addPages(gather, iova, size, done);
    return done * size;
  }

  #freeTree(table: number, level: number): void {
    const bytes = this.#levels.bytes(level);
    for (let at = table; level < LAST_LEVEL && at < table + bytes; at += 8) {
      const low = this.memory.load32(at) | 0;
      if (this.#tables.isTable(low, level))
        this.#freeTree(this.#tables.target(this.memory.load32(at + 4) | 0, low), level + 1);
    }
    this.pages.free(table, bytes);
  }
}
