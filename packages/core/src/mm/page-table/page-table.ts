/** A process's page table in simulated RAM, in a real format. IOMMU drivers bind its root; hardware walks it. */

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
}

/** How a page is mapped. */
export interface PageAttributes {
  readonly write: boolean;
  readonly exec: boolean;
  /** Accessible to user mode (and so to devices without Privileged Mode). */
  readonly user: boolean;
  /** The access flag; hardware or the fault path sets it otherwise. */
  readonly accessed: boolean;
  readonly dirty: boolean;
}
