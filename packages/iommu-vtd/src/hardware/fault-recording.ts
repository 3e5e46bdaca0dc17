/**
 * Non-recoverable faults (VT-d 7.2, 7.3): fault recording registers, FSTS, overflow, compression, and the fault event
 * interrupt, which queue errors share.
 */
import { Access, type ChipPorts, join64, NO_PASID, type RegisterFile } from "@iommukit/core";
import { FAULT_REASONS, FRCD, faultReason } from "../spec/faults.js";
import { type FrcdRegisters, FSTS } from "../spec/registers.js";
import { within } from "./address-bits.js";
import type { Capabilities } from "./capabilities.js";
import type { EventInterrupt } from "./event-interrupt.js";
import { AddressType, type Request } from "./request.js";

const QUALIFIED = new Uint8Array(256);
for (const { code, qualified } of FAULT_REASONS) QUALIFIED[code] = qualified ? 1 : 0;

/** Bits of FSTS that stand for a condition software has yet to service. */
const CONDITIONS = FSTS.PFO.lowMask | FSTS.PPF.lowMask | FSTS.IQE.lowMask | FSTS.ICE.lowMask | FSTS.ITE.lowMask;

export class FaultRecording {
  /** Register that takes the next fault. */
  #next = 0;
  readonly #record = new Int32Array(FRCD.words);
  /** FI ends at the widest input address: bits of it. */
  readonly #addressBits: number;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly file: RegisterFile,
    private readonly registers: readonly FrcdRegisters[],
    private readonly event: EventInterrupt,
    private readonly ports: ChipPorts,
    /** Runs when software has cleared IQE or ITE: the queue goes on. */
    private readonly queueErrorCleared: () => void,
  ) {
    this.#addressBits = caps.cap.FS5LP || caps.widthSupported(3) ? 57 : 48;
    for (const { HI } of registers) file.onWrite(HI, () => this.#updatePending());
    file.onWrite(FSTS, () => this.#statusWritten());
  }

  reset(): void {
    this.#next = 0;
  }

  /** Address and interrupt translation are both off: recording starts at register 0 again. */
  restart(): void {
    this.#next = 0;
  }

  /** Records the fault of a request, unless FPD says not to. */
  report(code: number, request: Request): void {
    if (request.faultsDisabled && QUALIFIED[code] === 1) {
      this.#dropped(code, request, "FPD");
      return;
    }
    const words = this.#record;
    words.fill(0);
    FRCD.FI.setPair(words, 0, within(request.hi, this.#addressBits), request.lo);
    FRCD.SID.setPair(words, 0, 0, request.rid);
    FRCD.FR.setPair(words, 0, 0, code);
    if (request.pasid !== NO_PASID && this.caps.ecap.PASID) {
      FRCD.PP.setPair(words, 0, 0, 1);
      FRCD.PV.setPair(words, 0, 0, request.pasid);
      if ((request.access & Access.PRIV) !== 0) FRCD.PRIV.setPair(words, 0, 0, 1);
      if ((request.access & Access.EXEC) !== 0) FRCD.EXE.setPair(words, 0, 0, 1);
    }
    this.#setType(words, request);
    this.#store(words, code, request);
  }

  /** T1 and T2: write 00, page request 01, read 10, atomic 11. */
  #setType(words: Int32Array, request: Request): void {
    if (request.type === AddressType.PAGE_REQUEST) {
      FRCD.T2.setPair(words, 0, 0, 1);
      return;
    }
    if (this.caps.ecap.DT) FRCD.AT.setPair(words, 0, 0, request.type);
    const writes = (request.access & Access.WRITE) !== 0;
    const reads = (request.access & (Access.READ | Access.EXEC)) !== 0;
    if (reads || !writes) FRCD.T1.setPair(words, 0, 0, 1);
    if (reads && writes && request.type !== AddressType.TRANSLATION_REQUEST) FRCD.T2.setPair(words, 0, 0, 1);
  }

  /** An interrupt request was blocked. @param index interrupt index; 0 where the reason has none */
  reportInterrupt(code: number, request: Request, index: number): void {
    if (request.faultsDisabled && QUALIFIED[code] === 1) {
      this.#dropped(code, request, "FPD");
      return;
    }
    const words = this.#record;
    words.fill(0);
    FRCD.FI.setPair(words, 0, index << 16, 0);
    FRCD.SID.setPair(words, 0, 0, request.rid);
    FRCD.FR.setPair(words, 0, 0, code);
    this.#store(words, code, request);
  }

  #dropped(code: number, request: Request, why: string): void {
    const { trace } = this.ports;
    if (!trace.enabled) return;
    trace.emit("fault:dropped", {
      unit: this.unit,
      rid: request.rid,
      pasid: request.pasid,
      address: join64(request.hi, request.lo),
      fault: faultName(code),
      reason: why,
    });
  }

  /** 7.2.1 */
  #store(record: Int32Array, code: number, request: Request): void {
    const { words } = this.file;
    const refused = this.#refusal(request.rid);
    if (refused !== "") {
      this.#dropped(code, request, refused);
      return;
    }
    const base = this.registers[this.#next].LO.index;
    if (FRCD.F.get(words, base) === 1) {
      // No event: the record in the way has set PPF (7.3).
      FSTS.PFO.setPair(words, FSTS.index, 0, 1);
      this.#dropped(code, request, "overflow");
      return;
    }
    const before = this.#status();
    for (let i = 0; i < FRCD.words; i++) words[base + i] = record[i];
    FRCD.F.setPair(words, base, 0, 1);
    if ((before & FSTS.PPF.lowMask) === 0) {
      FSTS.FRI.setPair(words, FSTS.index, 0, this.#next);
      FSTS.PPF.setPair(words, FSTS.index, 0, 1);
    }
    this.#next = (this.#next + 1) % this.registers.length;
    if (this.ports.trace.enabled) {
      this.ports.trace.emit("fault:recorded", {
        unit: this.unit,
        rid: request.rid,
        pasid: request.pasid,
        address: join64(request.hi, request.lo),
        fault: faultName(code),
        words: Array.from(words.subarray(base, base + FRCD.words), (word) => word >>> 0),
      });
    }
    if ((before & CONDITIONS) === 0) this.event.raise();
  }

  #refusal(rid: number): string {
    if (FSTS.PFO.get(this.file.words, FSTS.index) === 1) return "PFO";
    return this.caps.preset.faultCompression && this.#pendingOf(rid) ? "compression" : "";
  }

  #pendingOf(rid: number): boolean {
    const { words } = this.file;
    for (const { LO } of this.registers) {
      if (FRCD.F.get(words, LO.index) === 1 && FRCD.SID.get(words, LO.index) === rid) return true;
    }
    return false;
  }

  #status(): number {
    return this.file.words[FSTS.index];
  }

  /** A condition of the invalidation queue: the bit of IQE, ICE or ITE. */
  queueError(bit: number): void {
    const before = this.#status();
    this.file.words[FSTS.index] = before | bit;
    if ((before & CONDITIONS) === 0) this.event.raise();
  }

  /** IQE or ITE stands: no descriptor is fetched. */
  get queueStopped(): boolean {
    return (this.#status() & (FSTS.IQE.lowMask | FSTS.ITE.lowMask)) !== 0;
  }

  /** Software wrote F of a record: PPF is the OR of all. */
  #updatePending(): void {
    const { words } = this.file;
    const pending = this.registers.some(({ LO }) => FRCD.F.get(words, LO.index) === 1);
    FSTS.PPF.setPair(words, FSTS.index, 0, pending ? 1 : 0);
    this.#checkServiced();
  }

  #statusWritten(): void {
    this.#checkServiced();
    if (!this.queueStopped) this.queueErrorCleared();
  }

  #checkServiced(): void {
    if ((this.#status() & CONDITIONS) === 0) this.event.serviced();
  }
}

function faultName(code: number): string {
  const reason = faultReason(code);
  return `0x${code.toString(16)} ${reason?.meaning ?? "Unknown"}`;
}
