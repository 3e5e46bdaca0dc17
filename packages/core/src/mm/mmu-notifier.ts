/** mmu_notifier: who wants to hear before pages leave an address space (C1–C5). */
import type { Mm } from "./mm.js";

/** Registered with `mm.registerNotifier`; the pages go only after every callback's promise. */
export interface MmuNotifier {
  /** The last user of the address space is gone; called once, before anything is unmapped. May sleep. */
  release(mm: Mm): Promise<void>;
  /** Page table entries in [start, end) have been changed or removed, the pages are not yet free. */
  invalidateRange(mm: Mm, start: bigint, end: bigint): Promise<void>;
  /** The page was aged. @returns whether it had been accessed; after it no stale access flag is cached anywhere */
  clearFlushYoung(mm: Mm, start: bigint, end: bigint): Promise<boolean>;
  /** One entry now points to another page (copy-on-write, KSM). */
  changePte(mm: Mm, address: bigint): Promise<void>;
}
