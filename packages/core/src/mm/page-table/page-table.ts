/** A process's page table in simulated RAM, in a real format. IOMMU drivers bind its root; hardware walks it. */

/** The formats that `mm.pageTable` knows. */
export type PageTableFormat = "vmsav8-64" | "x86-64";

/** What a driver needs to point hardware at the table. */
export interface PageTable {
  readonly format: PageTableFormat;
  /** Physical address of the root table. */
  readonly root: number;
  /** Bits of virtual address: 48, or 57 with five x86 levels. */
  readonly vaBits: number;
  /** Levels from the root to the leaf. */
  readonly levels: number;
  /** Granule: 4096. */
  readonly pageSize: number;
  /** MAIR_EL1 for vmsav8-64, 0 otherwise: what the AttrIndx in the entries means. */
  readonly mair: bigint;
  /** Bytes of RAM that the tables take now. */
  readonly bytes: number;
  /** What the table says of an address now, with the access and dirty state that hardware left. */
  lookup(address: bigint): PageMapping | undefined;
}

/** How a page is mapped, whatever the format: bits of one number. */
export const PageFlag = {
  WRITE: 1,
  EXEC: 2,
  /** Accessible to user mode (and so to devices without Privileged Mode). */
  USER: 4,
  /** The access flag; hardware or the fault path sets it. */
  ACCESSED: 8,
  /** Written to. A writable page that is not dirty is read-only with DBM in vmsav8-64 until somebody writes. */
  DIRTY: 16,
  /** No struct page behind it: the zero page, device memory. */
  SPECIAL: 32,
  /** Memory-mapped registers: uncached, never executable. */
  DEVICE: 64,
} as const;

/** Number of combinations of PageFlag. */
export const PAGE_FLAGS = 128;

/** log2 of what one entry maps. */
export type PageShift = 12 | 21 | 30;

/** What a table says of one address. */
export interface PageMapping {
  /** Physical address of the byte. */
  readonly pa: number;
  readonly shift: PageShift;
  /** PageFlag bits. */
  readonly flags: number;
}
