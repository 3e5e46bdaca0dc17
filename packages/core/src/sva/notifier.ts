/**
 * What the SVA core hears of a bound address space (C1–C4), as the 2018 series has it: every invalidation reaches every
 * bond, and the end of the process removes them all.
 */
import type { Kernel } from "../kernel/kernel.js";
import { unfailing } from "../kernel/unfailing.js";
import type { Mm } from "../mm/mm.js";
import type { MmuNotifier } from "../mm/mmu-notifier.js";
import type { IoMmRecord, IoMms } from "./io-mms.js";

const PAGE_SIZE = 4096n;

export class SvaNotifier implements MmuNotifier {
  constructor(
    private readonly kernel: Kernel,
    private readonly ioMm: IoMmRecord,
    private readonly ioMms: IoMms,
    private readonly exit: (ioMm: IoMmRecord) => Promise<void>,
  ) {}

  /** The process is gone: nobody may use its pages when this returns. */
  release(): Promise<void> {
    return this.ioMms.srcu.read(() => this.exit(this.ioMm));
  }

  invalidateRange(_mm: Mm, start: bigint, end: bigint): Promise<void> {
    return this.ioMms.srcu.read(() => this.#invalidate(start, end - start));
  }

  /** @returns false: the access flags were cleared by the caller, and no cache keeps them now */
  async clearFlushYoung(mm: Mm, start: bigint, end: bigint): Promise<boolean> {
    await this.invalidateRange(mm, start, end);
    return false;
  }

  changePte(mm: Mm, address: bigint): Promise<void> {
    return this.invalidateRange(mm, address, address + PAGE_SIZE);
  }

  /** Without the io_mm's mutex: a bond that is being attached or detached gets it as well. */
  async #invalidate(start: bigint, size: bigint): Promise<void> {
    for (const bond of [...this.ioMm.devices]) {
      const { device, domain, ops } = bond;
      const invalidate = () => ops.mmInvalidate(domain, device, this.ioMm, start, size);
      if (bond.attached) await unfailing(this.kernel, `${device.name}: mm_invalidate`, invalidate);
    }
  }
}
