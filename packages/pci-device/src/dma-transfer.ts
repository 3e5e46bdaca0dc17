/**
 * One DMA on its way from a function to memory: address translation cache, translation request, IOMMU, system bus. Every
 * step is synchronous and allocates nothing; what has to wait for software ends with NOT_PRESENT or STALLED, and `advance`
 * goes on from there when it has been waited for.
 */
import {
  Access,
  AtsCompletion,
  AtsStatus,
  join64,
  NO_PASID,
  physical,
  type SystemBus,
  type Tracer,
  Translation,
  type TranslationPort,
  TranslationStatus,
} from "@iommukit/core";
import type { AtsUnit } from "./ats-unit.js";
import { DmaStatus } from "./dma-status.js";
import type { PasidState } from "./pasid-state.js";

/** What a DMA knows of the function that sends it. */
export interface DmaRequester {
  readonly bdf: string;
  /** The requester id that its requests carry when they reach the IOMMU. */
  readonly requesterId: number;
  /** It and every bridge above it may issue requests now. */
  readonly mayMaster: boolean;
  readonly ats: AtsUnit | undefined;
  readonly pasid: PasidState;
}

const READ_WRITE = Access.READ | Access.WRITE;
const PERMISSIONS = READ_WRITE | Access.EXEC;
const NOTHING = new Uint8Array(0);

/** `DmaEngine` drives it. */
export class DmaTransfer {
  pasid: number = NO_PASID;
  access = 0;
  bytes: Uint8Array = NOTHING;
  /** Address of the next byte, and bytes done. */
  hi = 0;
  lo = 0;
  done = 0;
  /** Identifies the transaction when it is STALLED. */
  stag = 0;
  /** What it belongs to. */
  owner: unknown;
  /** Somebody wants it to end at the next step. */
  cancelled = false;
  /** Where the next byte is in memory, and log2 of the range that translates alike; 0 when it was an interrupt. */
  #paHi = 0;
  #paLo = 0;
  #shift = 0;
  readonly #translation = new Translation();
  readonly #completion = new AtsCompletion();

  constructor(
    private readonly requester: DmaRequester,
    private readonly port: TranslationPort,
    private readonly bus: SystemBus,
    private readonly trace: Tracer,
  ) {}

  start(pasid: number, hi: number, lo: number, bytes: Uint8Array, access: number): void {
    this.pasid = pasid;
    this.hi = hi;
    this.lo = lo;
    this.bytes = bytes;
    this.done = 0;
    this.cancelled = false;
    // An aligned write of four bytes without a PASID cannot be told from an interrupt message.
    const message = bytes.length === 4 && pasid === NO_PASID && (lo & 3) === 0 && (access & Access.WRITE) !== 0;
    const flush = bytes.length === 0 && (access & Access.READ) !== 0;
    this.access = access | (message ? Access.MSI : 0) | (flush ? Access.ZERO_LENGTH : 0);
  }

  get finished(): boolean {
    return this.done >= this.bytes.length;
  }

  /** Moves what can be moved. @returns a DmaStatus; OK when all is done */
  advance(): number {
    if (this.bytes.length === 0) return this.#resolve();
    while (this.done < this.bytes.length) {
      const found = this.#resolve();
      const status = found === DmaStatus.OK ? this.move() : found;
      if (status !== DmaStatus.OK) return status;
    }
    return DmaStatus.OK;
  }

  #resolve(): number {
    if (!this.permitted()) return DmaStatus.REFUSED;
    const ats = this.atsInUse();
    if (ats === undefined) return this.untranslated();
    if (!this.cached(ats)) {
      const status = this.request(ats);
      if (status !== DmaStatus.OK) return status;
      if (!this.keep(ats)) return DmaStatus.NOT_PRESENT;
    }
    return this.useCached(ats);
  }

  /** Whether a well-behaved function sends this at all. */
  permitted(): boolean {
    return this.requester.mayMaster && this.requester.pasid.permits(this.pasid, this.access);
  }

  /** Interrupt messages never use translations of the cache (PCIe 10.1.1). */
  atsInUse(): AtsUnit | undefined {
    const { ats } = this.requester;
    return ats?.enabled === true && (this.access & Access.MSI) === 0 ? ats : undefined;
  }

  /** Whether the cache holds a translation for the next byte that permits the access. */
  cached(ats: AtsUnit): boolean {
    const hit = ats.atc.lookup(this.pasid, this.hi, this.lo, this.access) && this.#granted(ats);
    if (this.trace.enabled) {
      const { bdf: unit, requesterId: rid } = this.requester;
      const address = join64(this.hi, this.lo);
      this.trace.emit(hit ? "tlb:hit" : "tlb:missed", { unit, rid, pasid: this.pasid, address, cache: "ATC" });
    }
    return hit;
  }

  #granted(ats: AtsUnit): boolean {
    return (this.access & PERMISSIONS & ~ats.atc.perms) === 0;
  }

  /** Sends a translation request. OK: there is an answer for `keep`, which may grant nothing. */
  request(ats: AtsUnit): number {
    if (ats.refused) return DmaStatus.UNSUPPORTED;
    const { requesterId } = this.requester;
    const status = this.port.translationRequest(
      requesterId,
      this.pasid,
      this.hi,
      this.lo & ~0xfff,
      this.access,
      this.#completion,
    );
    if (status === AtsStatus.UR) {
      ats.refused = true;
      return DmaStatus.UNSUPPORTED;
    }
    // A translation smaller than the STU would be the IOMMU's error.
    const usable = status === AtsStatus.SUCCESS && this.#completion.shift >= ats.smallestTranslation;
    return usable ? DmaStatus.OK : DmaStatus.FAULT;
  }

  /** Puts the last answer into the cache. @returns whether it permits the access */
  keep(ats: AtsUnit): boolean {
    const completion = this.#completion;
    if (!ats.atc.fill(this.pasid, this.hi, this.lo, this.access, completion)) return false;
    if (this.trace.enabled) {
      const { bdf: unit, requesterId: rid } = this.requester;
      const pa = physical(completion.hi, completion.lo);
      const address = join64(this.hi, this.lo);
      const size = 2 ** completion.shift;
      this.trace.emit("tlb:filled", { unit, rid, pasid: this.pasid, address, cache: "ATC", pa, size });
    }
    return this.#granted(ats);
  }

  /** Sends a translated request with the entry that the cache found last. */
  useCached(ats: AtsUnit): number {
    const { atc } = ats;
    if (atc.untranslatedOnly) return this.untranslated();
    const { shift } = atc;
    const withPasid = this.requester.pasid.translated && this.pasid !== NO_PASID;
    const kind = (withPasid ? this.access : this.access & READ_WRITE) | Access.TRANSLATED;
    const status = this.#translate(withPasid ? this.pasid : NO_PASID, atc.paHi(this.hi), atc.paLo(this.lo), kind);
    if (this.#shift > shift) this.#shift = shift;
    return status;
  }

  untranslated(): number {
    return this.#translate(this.pasid, this.hi, this.lo, this.access);
  }

  #translate(pasid: number, hi: number, lo: number, access: number): number {
    const out = this.#translation;
    switch (this.port.translate(this.requester.requesterId, pasid, hi, lo, access, out)) {
      case TranslationStatus.OK:
        this.#paHi = out.hi;
        this.#paLo = out.lo;
        this.#shift = out.shift;
        return DmaStatus.OK;
      case TranslationStatus.INTERRUPT:
        this.#shift = 0;
        return DmaStatus.OK;
      case TranslationStatus.STALLED:
        this.stag = out.stag;
        return DmaStatus.STALLED;
      case TranslationStatus.UNSUPPORTED:
        return DmaStatus.UNSUPPORTED;
      case TranslationStatus.ABORTED:
        return DmaStatus.ABORTED;
      default:
        return DmaStatus.FAULT;
    }
  }

  /** Copies what the last translation reaches, or delivers the interrupt. @returns a DmaStatus */
  move(): number {
    const left = this.bytes.length - this.done;
    if (this.#shift === 0) return this.#deliver();
    const count = Math.min(left, room(this.#shift, this.lo));
    const part = count === this.bytes.length ? this.bytes : this.bytes.subarray(this.done, this.done + count);
    const pa = physical(this.#paHi, this.#paLo);
    const answered = (this.access & Access.WRITE) !== 0 ? this.bus.write(pa, part) : this.bus.read(pa, part);
    if (!answered) return DmaStatus.BUS_ERROR;
    if (this.trace.enabled) this.#traceMove(pa, count);
    this.skip(count);
    return DmaStatus.OK;
  }

  #traceMove(pa: number, length: number): void {
    const { bdf: device, requesterId: rid } = this.requester;
    const write = (this.access & Access.WRITE) !== 0;
    const address = join64(this.hi, this.lo);
    this.trace.emit("dma:moved", { device, rid, pasid: this.pasid, address, pa, length, write });
  }

  #deliver(): number {
    const [b0, b1, b2, b3] = this.bytes;
    const data = (b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)) >>> 0;
    const status = this.port.interrupt?.(this.requester.requesterId, physical(this.hi, this.lo), data);
    if (status === TranslationStatus.FAULT) return DmaStatus.FAULT;
    this.skip(this.bytes.length);
    return DmaStatus.OK;
  }

  /** Goes on behind the next `count` bytes without moving them. */
  skip(count: number): void {
    const low = (this.lo >>> 0) + count;
    this.lo = low | 0;
    if (low >= 2 ** 32) this.hi = (this.hi + 1) | 0;
    this.done += count;
  }
}

/** Bytes from the address to the end of its naturally aligned range. */
function room(shift: number, lo: number): number {
  const size = shift >= 31 ? 2 ** 31 : 1 << shift;
  return size - (lo & (size - 1));
}
