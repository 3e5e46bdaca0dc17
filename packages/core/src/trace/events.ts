/**
 * The trace's vocabulary: `noun:verb`, past tense, plain data. Addresses are bigint where they are virtual and number where
 * they are physical; `unit` names the IOMMU ("smmuv3", "vtd") or device; `pasid` is -1 for none. An interface, so that a
 * package may add events of its own by declaration merging.
 */
import type { Errno } from "../kernel/errno.js";

/** Which requester, with which tag, for which address. */
interface Request {
  readonly unit: string;
  readonly rid: number;
  readonly pasid: number;
  readonly address: bigint;
}

interface PageRun {
  readonly address: number;
  readonly pages: number;
  readonly owner: string;
}

interface LockEvent {
  readonly lock: string;
  readonly kind: "mutex" | "spin";
  readonly thread: string;
}

/** Every event by name, with its payload. */
export interface TraceEvents {
  // A DMA, from descriptor to byte.
  "dma:completed": {
    readonly device: string;
    readonly rid: number;
    readonly pasid: number;
    readonly address: bigint;
    readonly length: number;
    readonly write: boolean;
    readonly status: number;
  };
  /** Bytes of one translated range have moved between the device and memory. `address` is what the device asked for. */
  "dma:moved": {
    readonly device: string;
    readonly rid: number;
    readonly pasid: number;
    readonly address: bigint;
    readonly pa: number;
    readonly length: number;
    readonly write: boolean;
  };
  "translate:completed": Request & {
    readonly access: number;
    readonly kind: "untranslated" | "translated";
    readonly status: number;
    readonly pa: number;
  };
  /** A lookup in a configuration cache: STE, CD, context, PASID. */
  "config:hit": { readonly unit: string; readonly cache: string; readonly rid: number; readonly pasid: number };
  "config:missed": { readonly unit: string; readonly cache: string; readonly rid: number; readonly pasid: number };
  /** A lookup in a TLB, a paging-structure cache or a device's ATC. */
  "tlb:hit": Request & { readonly cache: string };
  "tlb:missed": Request & { readonly cache: string };
  "tlb:filled": Request & { readonly cache: string; readonly pa: number; readonly size: number };
  /** Entries that an invalidation took out. */
  "cache:invalidated": {
    readonly unit: string;
    readonly cache: string;
    readonly scope: string;
    readonly entries: number;
  };
  /** One table entry read by hardware: stream table, CD, PASID table, page table level. */
  "table:read": {
    readonly unit: string;
    readonly table: string;
    readonly index: number;
    readonly address: number;
    readonly value: bigint;
  };
  /** Access or dirty bits written back by hardware. */
  "table:updated": { readonly unit: string; readonly table: string; readonly address: number; readonly value: bigint };
  /** A table entry written by a driver or by mm. */
  "table:written": { readonly by: string; readonly table: string; readonly address: number; readonly value: bigint };

  // Commands, events, interrupts.
  "command:consumed": { readonly unit: string; readonly command: string; readonly words: readonly number[] };
  "command:refused": {
    readonly unit: string;
    readonly command: string;
    readonly words: readonly number[];
    readonly reason: string;
  };
  /** An SMMUv3 event or a VT-d fault record. `words` as they stand in memory or in the register. */
  "fault:recorded": Request & { readonly fault: string; readonly words: readonly number[] };
  "fault:dropped": Request & { readonly fault: string; readonly reason: string };
  "irq:raised": { readonly unit: string; readonly source: string };

  // ATS, PRI, stalls.
  "ats:completed": Request & { readonly status: string; readonly size: number; readonly access: number };
  "ats:invalidated": Request & { readonly size: bigint; readonly entries: number };
  "pri:requested": Request & { readonly prgi: number; readonly last: boolean; readonly access: number };
  "pri:dropped": Request & { readonly prgi: number; readonly reason: string };
  "pri:answered": {
    readonly unit: string;
    readonly rid: number;
    readonly pasid: number;
    readonly prgi: number;
    readonly code: string;
  };
  /** A function has forgotten everything: what it asked, what it cached, what was under way. */
  "device:reset": { readonly device: string; readonly rid: number; readonly kind: string };
  "stall:opened": Request & { readonly stag: number };
  "stall:resolved": { readonly unit: string; readonly rid: number; readonly stag: number; readonly action: string };

  // The kernel.
  "log:printed": { readonly line: string };
  "ioctl:returned": {
    readonly task: string;
    readonly pid: number;
    readonly fd: number;
    readonly request: number;
    readonly result: number;
    readonly error?: Errno;
  };
  "file:opened": { readonly task: string; readonly pid: number; readonly path: string; readonly error?: Errno };
  /** The last descriptor of an open file has gone, and what it held is given back. */
  "file:closed": { readonly file: string };
  /** A program's read or write of a file: a region of a device, at its position in the file. */
  "file:accessed": {
    readonly task: string;
    readonly pid: number;
    readonly file: string;
    readonly position: number;
    readonly bytes: number;
    readonly write: boolean;
    readonly error?: Errno;
  };
  /** A program's load or store to a BAR that it has mapped. */
  "bar:accessed": {
    readonly pid: number;
    readonly address: number;
    readonly width: number;
    readonly write: boolean;
    readonly value: bigint;
  };
  "task:started": { readonly pid: number; readonly task: string };
  "task:exited": { readonly pid: number; readonly task: string };
  "lock:acquired": LockEvent;
  "lock:released": LockEvent;
  "lock:contended": LockEvent;
  /** A fault of a device was answered; what a CPU's own access faults in is not told. */
  "mm:faulted": { readonly mm: number; readonly address: bigint; readonly access: number; readonly result: string };
  /** Entries of [start, end) are gone from every table. The notifiers come next, and only then pages are freed (I-7). */
  "mm:unmapped": { readonly mm: number; readonly start: bigint; readonly end: bigint };
  "mm:released": { readonly mm: number };
  /** Somebody looked at the struct after its last reference had gone. */
  "mm:misused": { readonly mm: number; readonly owner: string };
  /** A callback of one notifier starts. */
  "notifier:called": { readonly mm: number; readonly callback: string; readonly start: bigint; readonly end: bigint };
  /** Everybody has been told, and nobody may use the entries any more. */
  "mm:notified": { readonly mm: number; readonly start: bigint; readonly end: bigint };
  /** Pages of 4 KiB, contiguous; what they are for. */
  "page:allocated": PageRun;
  "page:freed": PageRun;

  // SVA and VFIO.
  "pasid:allocated": { readonly pasid: number; readonly mm: number };
  "pasid:freed": { readonly pasid: number; readonly mm: number };
  "bond:created": { readonly device: string; readonly pasid: number; readonly mm: number };
  /** A device driver's mm_exit returned; non-zero: the device could not be stopped. */
  "bond:exited": { readonly device: string; readonly pasid: number; readonly mm: number; readonly result: number };
  "bond:removed": { readonly device: string; readonly pasid: number; readonly mm: number };
  "iopf:handled": {
    readonly device: string;
    readonly pasid: number;
    readonly address: bigint;
    readonly access: number;
    readonly code: string;
  };
  /** A group was answered: "success", "invalid", "failure". */
  "iopf:answered": { readonly device: string; readonly pasid: number; readonly grpid: number; readonly code: string };
  /** A request will never be answered: why. */
  "iopf:dropped": { readonly device: string; readonly pasid: number; readonly grpid: number; readonly reason: string };
  "domain:attached": { readonly unit: string; readonly device: string; readonly domain: number };
  "domain:detached": { readonly unit: string; readonly device: string; readonly domain: number };
  /** VFIO's decision in the domain compatibility check, with the reason. */
  "domain:compared": {
    readonly group: number;
    readonly domain: number;
    readonly compatible: boolean;
    readonly reason: string;
  };
  "iommu:mapped": {
    readonly unit: string;
    readonly domain: number;
    readonly iova: bigint;
    readonly pa: number;
    readonly size: number;
  };
  "iommu:unmapped": { readonly unit: string; readonly domain: number; readonly iova: bigint; readonly size: number };
  /** The driver says that nothing holds translations of what was unmapped in [start, end] any more. */
  "iommu:synced": { readonly unit: string; readonly domain: number; readonly start: bigint; readonly end: bigint };
}
