/**
 * The address spaces that are bound to something: one io_mm per mm, found by mm and by PASID (B1, B4, B5).
 *
 * An io_mm is in the tables from its first link on, so that two binds of one process can never make two of them. Its
 * PASID is free again only when the last bond is gone, and a bond goes only after the fault queues have been drained (D3).
 */
import type { IoMmContext, SvaOps } from "../iommu/iommu-ops.js";
import type { Kernel } from "../kernel/kernel.js";
import { Mutex } from "../kernel/mutex.js";
import { Srcu } from "../kernel/srcu.js";
import type { Mm } from "../mm/mm.js";
import type { MmuNotifier } from "../mm/mmu-notifier.js";
import type { Variants } from "../platform/variants.js";
import type { BondRecord } from "./bond-record.js";
import type { IoMm } from "./io-mm.js";

export class IoMmRecord implements IoMm {
  refs = 1;
  /** The PASID is taken; nobody else can get it. */
  ownsPasid = true;
  readonly devices = new Set<BondRecord>();
  readonly contexts = new Map<SvaOps, IoMmContext>();
  /** Serialises attach and detach of this address space; held while hardware is waited for, never while mm_exit runs. */
  readonly mutex: Mutex;

  constructor(
    kernel: Kernel,
    readonly mm: Mm,
    readonly pasid: number,
    readonly flags: number,
  ) {
    this.mutex = new Mutex(kernel.scheduler, kernel.trace, `io_mm ${pasid}->mutex`);
  }
}

/** Where PASIDs come from, and when they go back: what the seed and mainline do differently. */
export interface PasidPolicy {
  /** Taken or reserved now. */
  readonly used: number;
  /** @throws IommuError ENOSPC */
  take(mm: Mm, min: number, max: number): number;
  /** The last bond of the address space is gone and drained. */
  release(mm: Mm, pasid: number): void;
}

export class IoMms {
  /** Brackets notifier callbacks: what they use is freed after them. */
  readonly srcu: Srcu;
  readonly #byMm = new Map<Mm, IoMmRecord>();
  readonly #byPasid = new Map<number, IoMmRecord>();
  readonly #notifiers = new Map<IoMmRecord, MmuNotifier>();

  constructor(
    private readonly kernel: Kernel,
    private readonly pasids: PasidPolicy,
    private readonly notifierFor: (ioMm: IoMmRecord) => MmuNotifier,
    private readonly variants: Variants,
  ) {
    this.srcu = new Srcu(kernel.scheduler, "mmu_notifier");
  }

  of(mm: Mm): IoMmRecord | undefined {
    return this.#byMm.get(mm);
  }

  withPasid(pasid: number): IoMmRecord | undefined {
    return this.#byPasid.get(pasid);
  }

  /** @throws IommuError ENOSPC */
  create(mm: Mm, flags: number, min: number, max: number): IoMmRecord {
    const ioMm = new IoMmRecord(this.kernel, mm, this.pasids.take(mm, min, max), flags);
    this.#byMm.set(mm, ioMm);
    this.#byPasid.set(ioMm.pasid, ioMm);
    // The context that drivers keep may need the mm_struct until it is freed (mmgrab), but not its mappings.
    if (!this.variants.has("L-4")) mm.mmgrab();
    const notifier = this.notifierFor(ioMm);
    this.#notifiers.set(ioMm, notifier);
    mm.registerNotifier(notifier);
    return ioMm;
  }

  put(ioMm: IoMmRecord): void {
    if (--ioMm.refs > 0) return;
    this.#byMm.delete(ioMm.mm);
    const notifier = this.#notifiers.get(ioMm);
    if (notifier) ioMm.mm.unregisterNotifier(notifier);
    this.#notifiers.delete(ioMm);
    this.releasePasid(ioMm);
    if (!this.variants.has("L-4")) this.srcu.call(() => ioMm.mm.mmdrop());
  }

  /** From here on the PASID may belong to another process. */
  releasePasid(ioMm: IoMmRecord): void {
    if (!ioMm.ownsPasid) return;
    ioMm.ownsPasid = false;
    this.#byPasid.delete(ioMm.pasid);
    this.pasids.release(ioMm.mm, ioMm.pasid);
  }

  /** Gives the driver's context back when no bond of that driver is left; after running notifier callbacks. */
  dropContext(ioMm: IoMmRecord, ops: SvaOps): void {
    const context = ioMm.contexts.get(ops);
    if (!context) return;
    for (const bond of ioMm.devices) if (bond.ops === ops) return;
    ioMm.contexts.delete(ops);
    this.srcu.call(() => {
      const { mmCount, owner } = ioMm.mm;
      if (mmCount === 0) this.kernel.printk(`BUG: KASAN: use-after-free of the mm_struct of ${owner} in mm_free`);
      ops.mmFree(context);
    });
  }
}
