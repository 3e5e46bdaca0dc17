/**
 * Device-TLB invalidations under way (VT-d 4.3): 32 ITags, completion counting, time-out. A message that nobody answers,
 * because the function is gone, times out as well.
 */

import { type ChipPorts, type InvalidateCompletion, NO_PASID, type Timer } from "@iommukit/core";
import { alignHi, alignLo } from "./address-bits.js";

export const ITAGS = 32;

interface Pending {
  readonly rid: number;
  completions: number;
  readonly timer: Timer;
}

export interface DeviceTlbEvents {
  /** An invalidation is done: queued work may go on. */
  completed(): void;
  timedOut(rid: number): void;
  /** A completion that nothing waits for. */
  unexpected(rid: number): void;
}

/** log2 of the range that an ATS address with S names: its lowest zero bit from bit 12 up ends it (H14). */
export function rangeShift(hi: number, lo: number, sized: boolean): number {
  if (!sized) return 12;
  let shift = 13;
  for (let bit = 12; bit < 63; bit++, shift++) {
    const set = bit < 32 ? (lo >>> bit) & 1 : (hi >>> (bit - 32)) & 1;
    if (set === 0) return shift;
  }
  return 64;
}

export class DeviceTlb {
  readonly #pending: (Pending | undefined)[] = new Array<Pending | undefined>(ITAGS).fill(undefined);
  #count = 0;

  constructor(
    private readonly ports: ChipPorts,
    private readonly timeout: number,
    private readonly events: DeviceTlbEvents,
  ) {}

  /** Invalidations without completion so far. */
  get outstanding(): number {
    return this.#count;
  }

  get hasFreeTag(): boolean {
    return this.#count < ITAGS;
  }

  /** Sends one invalidation request; `hasFreeTag` must hold. */
  invalidate(rid: number, pasid: number, hi: number, lo: number, sized: boolean, global: boolean): void {
    const itag = this.#pending.indexOf(undefined);
    const timer = this.ports.scheduler.timer(this.timeout, () => this.#expire(itag));
    this.#pending[itag] = { rid, completions: 0, timer };
    this.#count++;
    const shift = rangeShift(hi, lo, sized);
    this.ports.requesters.find(rid)?.invalidate({
      rid,
      pasid,
      hi: alignHi(hi, shift),
      lo: alignLo(lo, shift),
      shift,
      global: global && pasid !== NO_PASID,
      itag,
    });
  }

  complete({ rid, itagVector, count }: InvalidateCompletion): void {
    const expected = count === 0 ? 8 : count;
    let invalid = false;
    let freed = false;
    for (let itag = 0; itag < ITAGS; itag++) {
      if (((itagVector >>> itag) & 1) === 0) continue;
      const pending = this.#pending[itag];
      if (pending?.rid !== rid) {
        invalid = true;
      } else if (++pending.completions >= expected) {
        this.#free(itag);
        freed = true;
      }
    }
    if (invalid) this.events.unexpected(rid);
    if (freed) this.events.completed();
  }

  #free(itag: number): void {
    this.#pending[itag]?.timer.cancel();
    this.#pending[itag] = undefined;
    this.#count--;
  }

  #expire(itag: number): void {
    const pending = this.#pending[itag];
    if (!pending) return;
    this.#free(itag);
    this.events.timedOut(pending.rid);
  }

  reset(): void {
    for (let itag = 0; itag < ITAGS; itag++) if (this.#pending[itag]) this.#free(itag);
  }
}
