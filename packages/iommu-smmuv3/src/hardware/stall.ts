/**
 * Stalled transactions: held until software resumes or terminates them. IHI 0070 3.12.2, 4.7.1, 4.7.2, 7.2.1. Up to
 * STALL_MAX have a record; what comes beyond, or cannot be recorded because the queue is not writable, waits at the port
 * without one and is retried when there is room.
 */
import type { ChipContext } from "./chip-context.js";
import type { EventQueue } from "./event-queue.js";
import type { Transaction } from "./transaction.js";

export type StallAction = "retry" | "terminate" | "abort";

/** Tags at the port, beyond those that STAG can name. */
const HELD_TAG = 0x1_0000;

export class Stalls {
  /** StreamID by STAG; absent: free. */
  readonly #recorded = new Map<number, number>();
  /** StreamID by tag of what waits for room, oldest first. */
  readonly #held = new Map<number, number>();
  #nextTag = 0;
  #nextHeld = 0;

  constructor(
    private readonly chip: ChipContext,
    private readonly events: EventQueue,
  ) {}

  /** Holds a transaction that faulted; answers the tag under which `stallResolved` will name it. */
  open(event: number, t: Transaction): number {
    const room = this.#recorded.size < this.chip.features.stallMax && this.events.writable;
    const stag = room ? this.#freeTag() : -1;
    if (room && this.events.record(event, t, false, stag)) {
      this.#recorded.set(stag, t.sid);
      this.#trace(t, stag);
      return stag;
    }
    const tag = HELD_TAG + this.#nextHeld++;
    this.#held.set(tag, t.sid);
    this.#trace(t, tag);
    return tag;
  }

  /** A tag is not used again before software has answered it, and late rather than soon after that. */
  #freeTag(): number {
    while (this.#recorded.has(this.#nextTag)) this.#nextTag = (this.#nextTag + 1) & 0xffff;
    const tag = this.#nextTag;
    this.#nextTag = (this.#nextTag + 1) & 0xffff;
    return tag;
  }

  /** CMD_RESUME: nothing happens unless the tag is a stalled transaction of that stream. */
  resume(sid: number, stag: number, action: StallAction): void {
    if (this.#recorded.get(stag) !== sid) return;
    this.#recorded.delete(stag);
    this.#resolve(sid, stag, action);
    this.admit();
  }

  /** CMD_STALL_TERM. */
  terminate(sid: number): void {
    this.#abort((owner) => owner === sid);
    this.admit();
  }

  /** SMMUEN goes to 0: whatever is stalled, with a record or without, is aborted and never retried (6.3.9.6). */
  terminateAll(): void {
    this.#abort(() => true);
  }

  #abort(which: (sid: number) => boolean): void {
    for (const table of [this.#recorded, this.#held]) {
      for (const [tag, sid] of [...table]) {
        if (!which(sid)) continue;
        table.delete(tag);
        this.#resolve(sid, tag, "abort");
      }
    }
  }

  /** There may be room now: what waits at the port is retried as though it had just arrived. */
  admit(): void {
    if (this.#held.size === 0 || !this.events.writable) return;
    let room = this.chip.features.stallMax - this.#recorded.size;
    for (const [tag, sid] of [...this.#held]) {
      if (room-- <= 0) return;
      this.#held.delete(tag);
      this.#resolve(sid, tag, "retry");
    }
  }

  reset(): void {
    this.#recorded.clear();
    this.#held.clear();
    this.#nextTag = 0;
    this.#nextHeld = 0;
  }

  #resolve(sid: number, tag: number, action: StallAction): void {
    const { name, ports } = this.chip;
    if (ports.trace.enabled) ports.trace.emit("stall:resolved", { unit: name, rid: sid, stag: tag, action });
    ports.requesters.find(sid)?.stallResolved(tag, action);
  }

  #trace(t: Transaction, stag: number): void {
    const { name, ports } = this.chip;
    if (!ports.trace.enabled) return;
    const address = (BigInt(t.hi >>> 0) << 32n) | BigInt(t.lo >>> 0);
    ports.trace.emit("stall:opened", { unit: name, rid: t.sid, pasid: t.ssid, address, stag });
  }
}
