/**
 * mm_struct: one address space, simulated or of a running process. What the SVA core, VFIO and the IOMMU drivers know of it.
 *
 * Counts as in Linux: `mmUsers` keeps the mappings alive (mmget/mmput), `mmCount` the struct and what hangs on it
 * (mmgrab/mmdrop; all users together hold one). When the last user goes, notifiers hear `release`, then the mappings go.
 */
import type { MmuNotifier } from "./mmu-notifier.js";
import type { PageTable, PageTableFormat } from "./page-table/page-table.js";

/** Vma permissions and kind. */
export interface VmaInfo {
  /** First byte and first byte after. */
  readonly start: bigint;
  readonly end: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly exec: boolean;
  readonly shared: boolean;
  /** File, "[heap]", "[stack]"; empty for anonymous memory. */
  readonly name: string;
}

/** VM_FAULT_*: what handle_mm_fault says. */
export type FaultResult = "ok" | "segv" | "bus" | "oom";

/** Pages that the kernel holds for DMA (get_user_pages): contiguous in physical memory too. */
export interface PinnedPages {
  readonly pa: number;
  readonly pages: number;
  /** No struct page behind it (device memory): nothing is held, and it does not count against RLIMIT_MEMLOCK. */
  readonly reserved: boolean;
  unpin(): void;
}

/** What a process source implements. Addresses are bytes, virtual; those of pages end in twelve zeros. */
export interface Mm {
  readonly id: number;
  /** "pid 7 (worker)", for messages. */
  readonly owner: string;
  readonly mmUsers: number;
  readonly mmCount: number;
  /** Pages charged against RLIMIT_MEMLOCK (VmLck). */
  lockedVm: number;

  mmget(): void;
  /** False when the last user is gone. */
  mmgetNotZero(): boolean;
  /** Drops a user. The last one tears the address space down: notifiers, then mappings. May sleep. */
  mmput(): Promise<void>;
  /** As mmput, from a work queue: for callers that hold a lock which the teardown needs (B9). */
  mmputAsync(): void;
  mmgrab(): void;
  mmdrop(): void;
  /** Called when mmCount has reached zero: what hangs on the struct (a PASID, in mainline) goes with it. */
  onDrop(callback: () => void): void;

  findVma(address: bigint): VmaInfo | undefined;
  /** Every mapping, lowest first. */
  vmas(): readonly VmaInfo[];
  /** handle_mm_fault with the permission check of the fault path. `access` is Access bits. Installs the page in every table. */
  fault(address: bigint, access: number): Promise<FaultResult>;
  /**
   * CPU access, faulting pages in. @returns bytes done before the first fault (copy_from_user semantics)
   */
  read(address: bigint, into: Uint8Array): Promise<number>;
  write(address: bigint, bytes: Uint8Array): Promise<number>;
  /**
   * get_user_pages: the page, and at most `most` in all as far as they are alike and contiguous. @throws IommuError EFAULT
   * @param keepZeroPage a read takes the shared zero page as it is, reserved, as kernels before 6.2 do
   */
  pin(address: bigint, write: boolean, keepZeroPage?: boolean, most?: number): Promise<PinnedPages>;

  /** The table of that format, made on first demand and from then on coherent with the others. */
  pageTable(format: PageTableFormat): PageTable;
  registerNotifier(notifier: MmuNotifier): void;
  /** Does not call release, and does not wait for callbacks that run. */
  unregisterNotifier(notifier: MmuNotifier): void;
}
