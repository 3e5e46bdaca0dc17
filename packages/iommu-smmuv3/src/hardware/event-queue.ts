/** Event records: what is written, when, and what happens when it cannot be. IHI 0070 7.2, 7.3, 7.4. */
import type { RegisterFile } from "@iommukit/core";
import * as e from "../spec/events.js";
import * as r from "../spec/registers.js";
import { highMaskFrom } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";
import type { Interrupts } from "./interrupts.js";
import { OutputQueue } from "./output-queue.js";
import type { Transaction } from "./transaction.js";

const { EVENT } = e;
/** Word and mask of InputAddr's page offset, which does not count when records are compared. */
const OFFSET_WORD = e.F_TRANSLATION.InputAddr.word;

export class EventQueue {
  readonly #queue: OutputQueue;
  readonly #record = new Int32Array(8);
  readonly #last = new Int32Array(8);
  /** The last record may absorb an equal one: nothing has been read or written since. */
  #mergeable = false;

  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
    private readonly interrupts: Interrupts,
  ) {
    this.#queue = new OutputQueue(
      chip,
      registers,
      r.EVENTQ_BASE,
      r.EVENTQ_PROD,
      r.EVENTQ_CONS,
      8,
      chip.features.eventqs,
    );
  }

  /** Enabled, not full, and no abort unacknowledged (7.2.1). */
  get writable(): boolean {
    return this.#enabled && !this.#queue.full;
  }

  get #enabled(): boolean {
    const enabled = (this.registers.words[r.CR0.index] & r.CR0.EVENTQEN.lowMask) !== 0;
    return enabled && !this.interrupts.active(r.GERROR.EVENTQ_ABT_ERR.lowMask);
  }

  /** Software read records or changed the queue: a record like the last is worth writing again. */
  forget(): void {
    this.#mergeable = false;
  }

  /**
   * Records an event of a transaction; `fault` of the chip holds the rest. `merge` is STE.MEV (7.3.1): a record that repeats
   * the last one, which software has not read yet, is not written. `stag` is -1 unless the transaction stalls.
   * @returns false when the record was not written
   */
  record(event: number, t: Transaction, merge: boolean, stag = -1): boolean {
    if (event === EVENT.C_BAD_STREAMID && (this.registers.words[r.CR2.index] & r.CR2.RECINVSID.lowMask) === 0) {
      this.suppress(event, t, "CR2.RECINVSID is 0");
      return false;
    }
    return this.write(event, t, merge, stag);
  }

  /** The same whatever CR2.RECINVSID says. */
  write(event: number, t: Transaction, merge: boolean, stag = -1): boolean {
    this.#fill(event, t, stag);
    if (stag < 0 && merge && this.#sameAsLast()) {
      this.suppress(event, t, "merged with the record before it");
      return true;
    }
    if (!this.writable) {
      if (stag < 0 && this.#enabled) this.#queue.overflow();
      this.suppress(event, t, this.#enabled ? "queue full" : "queue not enabled");
      return false;
    }
    const wasEmpty = this.#queue.empty;
    if (!this.#queue.write(this.#record)) {
      this.interrupts.activate(r.GERROR.EVENTQ_ABT_ERR.lowMask);
      this.suppress(event, t, "queue write aborted");
      return false;
    }
    this.#last.set(this.#record);
    this.#mergeable = stag < 0;
    if (this.chip.ports.trace.enabled) {
      const words = Array.from(this.#record, (word) => word >>> 0);
      this.chip.ports.trace.emit("fault:recorded", { ...this.#request(t), fault: name(event), words });
    }
    if (wasEmpty) this.interrupts.raise("eventq");
    return true;
  }

  #sameAsLast(): boolean {
    if (!this.#mergeable) return false;
    return this.#record.every((word, at) => ((word ^ this.#last[at]) & (at === OFFSET_WORD ? -0x1000 : -1)) === 0);
  }

  #fill(event: number, t: Transaction, stag: number): void {
    const w = this.#record.fill(0);
    const { fault } = this.chip;
    const head = e.F_TRANSLATION;
    head.ID.setPair(w, 0, 0, event);
    head.StreamID.setPair(w, 0, 0, t.sid);
    if (event === EVENT.F_STREAM_DISABLED || event === EVENT.F_TRANSL_FORBIDDEN) {
      if (event === EVENT.F_STREAM_DISABLED) return;
      e.F_TRANSL_FORBIDDEN.RnW.setPair(w, 0, 0, t.rnw);
      e.F_TRANSL_FORBIDDEN.InputAddr.setPair(w, 0, t.hi, t.lo);
      return;
    }
    if (event === EVENT.C_BAD_SUBSTREAMID) {
      e.C_BAD_SUBSTREAMID.SubstreamID.setPair(w, 0, 0, Math.max(t.ssid, 0));
      return;
    }
    if (t.ssid >= 0) {
      head.SSV.setPair(w, 0, 0, 1);
      head.SubstreamID.setPair(w, 0, 0, t.ssid);
    }
    if (event === EVENT.F_STE_FETCH || event === EVENT.F_CD_FETCH) {
      // An STE's address may lie beyond the output size; those bits are RES0 (7.3.4).
      const hi = fault.fetchHi & ~highMaskFrom(this.chip.features.oasBits);
      e.F_CD_FETCH.FetchAddr.setPair(w, 0, hi, fault.fetchLo);
      return;
    }
    if (event === EVENT.F_BAD_ATS_TREQ) {
      const request = e.F_BAD_ATS_TREQ;
      request.Span.setPair(w, 0, 0, 1);
      request.R.setPair(w, 0, 0, 1);
      request.W.setPair(w, 0, 0, t.write ? 1 : 0);
      request.X.setPair(w, 0, 0, t.exec ? 1 : 0);
      request.PRIV.setPair(w, 0, 0, t.incomingPriv ? 1 : 0);
      request.InputAddr.setPair(w, 0, t.hi, t.lo);
      return;
    }
    if (event < EVENT.F_WALK_EABT) return;
    head.PnU.setPair(w, 0, 0, t.priv ? 1 : 0);
    head.InD.setPair(w, 0, 0, t.ind ? 1 : 0);
    head.RnW.setPair(w, 0, 0, t.rnw | fault.readDenied);
    head.S2.setPair(w, 0, 0, fault.s2);
    head.Class.setPair(w, 0, 0, fault.cls);
    head.InputAddr.setPair(w, 0, t.hi, t.lo);
    if (fault.s2 === 1 && fault.cls === e.EVENT_CLASS.TT) head.TTRnW.setPair(w, 0, 0, fault.ttRnW);
    if (event === EVENT.F_WALK_EABT) {
      e.F_WALK_EABT.FetchAddr.setPair(w, 0, fault.fetchHi, fault.fetchLo);
      return;
    }
    if (fault.s2 === 1) head.IPA.setPair(w, 0, fault.ipaHi, fault.ipaLo);
    if (stag < 0) return;
    head.Stall.setPair(w, 0, 0, 1);
    head.STAG.setPair(w, 0, 0, stag);
  }

  /** Nothing is recorded; the trace tells why. */
  suppress(event: number, t: Transaction, reason: string): void {
    const { trace } = this.chip.ports;
    if (trace.enabled) trace.emit("fault:dropped", { ...this.#request(t), fault: name(event), reason });
  }

  #request(t: Transaction) {
    const address = (BigInt(t.hi >>> 0) << 32n) | BigInt(t.lo >>> 0);
    return { unit: this.chip.name, rid: t.sid, pasid: t.ssid, address };
  }
}

function name(event: number): string {
  return e.F_TRANSLATION.ID.nameOf(event) ?? `0x${event.toString(16)}`;
}
