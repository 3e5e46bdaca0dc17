/**
 * ATS invalidate requests in flight: CMD_ATC_INV sends them, endpoints complete them later, CMD_SYNC waits, and after the
 * PCIe timeout the wait ends with CERROR_ATC_INV_SYNC. IHI 0070 3.9.1.4, 4.5.1; PCIe 10.3.
 */
import type { InvalidateCompletion, Timer } from "@iommukit/core";
import type { ChipContext } from "./chip-context.js";

/** PCIe gives an endpoint one minute and a half at most. Nanoseconds. */
export const ATC_INVALIDATE_TIMEOUT = 90e9;
const TAGS = 32;

interface Pending {
  /** Completions still to come; 0 before the first says how many there are. */
  missing: number;
  readonly timer: Timer;
}

export class AtcInvalidation {
  /** By requester, then by ITag. */
  readonly #pending = new Map<number, Map<number, Pending>>();
  #count = 0;
  /** A request since the last successful CMD_SYNC timed out. */
  failed = false;

  constructor(
    private readonly chip: ChipContext,
    /** Called when a waiting command may go on. */
    private readonly progress: () => void,
  ) {}

  get outstanding(): number {
    return this.#count;
  }

  /** False when all tags of the function are in flight: the command has to wait. */
  send(rid: number, pasid: number, hi: number, lo: number, shift: number, global: boolean): boolean {
    const tags = this.#pending.get(rid) ?? new Map<number, Pending>();
    let itag = 0;
    while (tags.has(itag)) itag++;
    if (itag >= TAGS) return false;
    const timer = this.chip.ports.scheduler.timer(ATC_INVALIDATE_TIMEOUT, () => this.#timeout(rid, itag));
    tags.set(itag, { missing: 0, timer });
    this.#pending.set(rid, tags);
    this.#count++;
    this.chip.ports.requesters.find(rid)?.invalidate({ rid, pasid, hi, lo, shift, global, itag });
    return true;
  }

  complete({ rid, itagVector, count }: InvalidateCompletion): void {
    const tags = this.#pending.get(rid);
    if (!tags) return;
    for (const [itag, pending] of [...tags]) {
      if (((itagVector >>> itag) & 1) === 0) continue;
      if (pending.missing === 0) pending.missing = count === 0 ? 8 : count;
      pending.missing--;
      if (pending.missing === 0) this.#finish(rid, itag);
    }
    this.progress();
  }

  #timeout(rid: number, itag: number): void {
    this.failed = true;
    this.#finish(rid, itag);
    this.progress();
  }

  #finish(rid: number, itag: number): void {
    const tags = this.#pending.get(rid);
    const pending = tags?.get(itag);
    if (!tags || !pending) return;
    pending.timer.cancel();
    tags.delete(itag);
    if (tags.size === 0) this.#pending.delete(rid);
    this.#count--;
  }

  reset(): void {
    for (const [rid, tags] of [...this.#pending]) for (const itag of [...tags.keys()]) this.#finish(rid, itag);
    this.failed = false;
  }
}
