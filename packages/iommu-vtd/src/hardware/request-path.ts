/**
 * What becomes of a request, by its kind (VT-d 3.13 to 3.15, 4.2, 5.1): untranslated, translated, translation request, interrupt.
 * Every request that ends in a fault is recorded here.
 */
import {
  Access,
  type AtsCompletion,
  AtsStatus,
  emitTranslationEnd,
  join64,
  NO_PASID,
  type TraceChannel,
  type TraceInterest,
  type Tracer,
  type Translation,
  TranslationStatus,
} from "@iommukit/core";
import { FAULT_REASONS, InterruptFault, LegacyFault, ScalableFault } from "../spec/faults.js";
import { beyond } from "./address-bits.js";
import { atsStatus, emptyCompletion, fillCompletion, interruptCompletion, recordedForAts } from "./ats.js";
import type { Capabilities } from "./capabilities.js";
import type { ConfigLookup } from "./config-lookup.js";
import type { FaultRecording } from "./fault-recording.js";
import type { GlobalCommand } from "./global-command.js";
import type { InterruptRemapping } from "./interrupt-remapping.js";
import type { ProtectedMemory } from "./protected-memory.js";
import type { QuickPath } from "./quick-path.js";
import { AddressType, inInterruptRange, meetsInterruptRange, Request } from "./request.js";
import { permsOf } from "./rights.js";
import type { TranslationLookup } from "./translation-lookup.js";

export interface RequestParts {
  readonly unit: string;
  readonly caps: Capabilities;
  readonly config: ConfigLookup;
  readonly quick: QuickPath;
  readonly lookup: TranslationLookup;
  readonly faults: FaultRecording;
  readonly global: GlobalCommand;
  readonly interrupts: InterruptRemapping;
  readonly protectedMemory: ProtectedMemory;
  readonly trace: Tracer;
}

const { OK } = TranslationStatus;
const STEPS = [
  "tlb:hit",
  "tlb:missed",
  "tlb:filled",
  "config:hit",
  "config:missed",
  "table:read",
  "table:updated",
] as const;
const ANY = Access.READ | Access.WRITE | Access.EXEC;

/** Translated requests that end as Completer Abort; all others are Unsupported Requests. */
const TRANSLATED_ABORTS = new Uint8Array(256);
for (const { code, translatedRequest } of FAULT_REASONS) if (translatedRequest === "CA") TRANSLATED_ABORTS[code] = 1;

export class RequestPath {
  readonly #request = new Request();
  /** Listeners to the steps of translations, none of which takes the common path then; and to their ends. */
  readonly #steps: TraceInterest;
  readonly #completed: TraceChannel<"translate:completed">;
  /** 1 when somebody listens to ends. */
  ended = 0;

  constructor(private readonly parts: RequestParts) {
    const changed = () => this.modeChanged();
    this.#steps = parts.trace.interest(STEPS, changed);
    this.#completed = parts.trace.channel("translate:completed", changed);
  }

  /** Root table, enables, protection or listeners have changed, and with them the requests that the common path may serve. */
  modeChanged(): void {
    const { config, global, quick, protectedMemory } = this.parts;
    const closed = !global.translating || protectedMemory.active || config.modeFault !== 0 || this.#steps.wanted;
    quick.refuse(closed, closed || !config.scalable);
    this.ended = this.#completed.wanted ? 1 : 0;
  }

  /** What is not common, or somebody listens to the ends of requests. @param done 1 when `out` has the answer. @returns TranslationStatus */
  rest(done: number, rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    if (done === 0) return this.#inFull(rid, pasid, hi, lo, access, out);
    emitTranslationEnd(this.#completed, this.parts.unit, rid, pasid, hi, lo, access, OK, out);
    return OK;
  }

  #inFull(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const translated = (access & Access.TRANSLATED) !== 0;
    const request = this.#request;
    request.start(rid, pasid, hi, lo, access, translated ? AddressType.TRANSLATED : AddressType.UNTRANSLATED);
    const status = translated ? this.#translated(request, out) : this.#untranslated(request, out);
    if (this.#completed.wanted)
      emitTranslationEnd(this.#completed, this.parts.unit, rid, pasid, hi, lo, access, status, out);
    return status;
  }

  /** @returns AtsStatus */
  translationRequest(rid: number, pasid: number, hi: number, lo: number, access: number, out: AtsCompletion): number {
    const request = this.#request;
    // Without NWFS every request counts as one for writing; with it a request for writing counts as an atomic (4.2.3.1).
    const writes = (access & Access.WRITE) !== 0 || !this.parts.caps.ecap.NWFS;
    request.start(
      rid,
      pasid,
      hi,
      lo,
      access | (writes ? Access.READ | Access.WRITE : Access.READ),
      AddressType.TRANSLATION_REQUEST,
    );
    const status = this.#translationRequest(request, out);
    if (this.parts.trace.enabled) this.#traceAts(status, out);
    return status;
  }

  #untranslated(request: Request, out: Translation): number {
    const { global, protectedMemory, faults, lookup } = this.parts;
    // While translation is off, a PASID is ignored (3.1).
    const plain = request.pasid === NO_PASID || !global.translating;
    if (plain && request.inInterruptRange) return this.#interruptRange(request, out);
    if (!global.translating) {
      if (protectedMemory.blocks(request.hi, request.lo)) return TranslationStatus.ABORTED;
      return answer(out, request.hi, request.lo, 12, ANY);
    }
    let fault = lookup.find(request);
    if (fault === 0 && inInterruptRange(lookup.hi, lookup.lo)) fault = this.#interruptAddress;
    if (fault !== 0) {
      faults.report(fault, request);
      return TranslationStatus.FAULT;
    }
    if (protectedMemory.blocks(lookup.hi, lookup.lo)) return TranslationStatus.ABORTED;
    return answer(out, lookup.hi, lookup.lo, lookup.shift, permsOf(lookup.rights, request.supervisor));
  }

  get #interruptAddress(): number {
    return this.parts.config.scalable ? ScalableFault.INTERRUPT_ADDRESS.code : LegacyFault.INTERRUPT_ADDRESS.code;
  }

  /** 3.15: a 4-byte write is an interrupt, a zero-length read completes, anything else is an error. */
  #interruptRange(request: Request, out: Translation): number {
    const { global, interrupts, faults } = this.parts;
    if ((request.access & Access.ZERO_LENGTH) !== 0) return answer(out, request.hi, request.lo, 12, Access.READ);
    if ((request.access & Access.MSI) !== 0) return TranslationStatus.INTERRUPT;
    if (!global.translating && !interrupts.enabled) return TranslationStatus.ABORTED;
    faults.reportInterrupt(InterruptFault.NOT_AN_INTERRUPT.code, request, 0);
    return TranslationStatus.FAULT;
  }

  /** 4.2.5: no translation, but the context entry has to allow it. PASIDs on translated requests are not supported (4.2.1). */
  #translated(request: Request, out: Translation): number {
    if (!this.parts.global.translating || request.pasid !== NO_PASID) return TranslationStatus.UNSUPPORTED;
    const fault = this.#checkTranslated(request);
    if (fault === 0) {
      if (this.parts.protectedMemory.blocks(request.hi, request.lo)) return TranslationStatus.ABORTED;
      return answer(out, request.hi, request.lo, 12, ANY);
    }
    this.parts.faults.report(fault, request);
    return TRANSLATED_ABORTS[fault] === 1 ? TranslationStatus.FAULT : TranslationStatus.UNSUPPORTED;
  }

  #checkTranslated(request: Request): number {
    const fault = this.#deviceTlbFault(request);
    if (fault !== 0) return fault;
    if (beyond(request.hi, this.parts.caps.haw)) {
      return this.parts.config.scalable ? ScalableFault.BEYOND_HOST_WIDTH.code : LegacyFault.BEYOND_MGAW.code;
    }
    return request.inInterruptRange ? this.#interruptAddress : 0;
  }

  /** What the context entry says to translation and translated requests. */
  #deviceTlbFault(request: Request): number {
    const { config } = this.parts;
    const context = config.context(request.rid);
    request.faultsDisabled = context.faultsDisabled;
    if (context.fault !== 0) return context.fault;
    if (context.deviceTlb) return 0;
    return config.scalable ? ScalableFault.DTE_CLEAR.code : LegacyFault.TRANSLATION_TYPE_BLOCKED.code;
  }

  #translationRequest(request: Request, out: AtsCompletion): number {
    const { global, caps, faults } = this.parts;
    emptyCompletion(request, out);
    if (!global.translating || !caps.ecap.DT) return AtsStatus.UR;
    const fault = this.#fetch(request, out);
    if (fault === 0) return AtsStatus.SUCCESS;
    if (recordedForAts(fault)) faults.report(fault, request);
    return atsStatus(fault);
  }

  #fetch(request: Request, out: AtsCompletion): number {
    const { lookup } = this.parts;
    const mode = lookup.modeFault(request);
    if (mode !== 0) return mode;
    const refused = this.#deviceTlbFault(request);
    if (refused !== 0) return refused;
    if (request.pasid === NO_PASID && request.inInterruptRange) {
      interruptCompletion(request, out);
      return 0;
    }
    const fault = lookup.find(request);
    if (fault !== 0) return fault;
    if (meetsInterruptRange(lookup.hi, lookup.lo, lookup.shift)) return this.#interruptAddress;
    fillCompletion(this.parts.caps, request, lookup.rights, lookup.hi, lookup.lo, lookup.shift, out);
    return 0;
  }

  #traceAts(status: number, out: AtsCompletion): void {
    const { rid, pasid, hi, lo } = this.#request;
    const { unit, trace } = this.parts;
    trace.emit("ats:completed", {
      unit,
      rid,
      pasid,
      address: join64(hi, lo),
      status: status === AtsStatus.SUCCESS ? "SUCCESS" : status === AtsStatus.UR ? "UR" : "CA",
      size: 2 ** out.shift,
      access: (out.read ? Access.READ : 0) | (out.write ? Access.WRITE : 0) | (out.execute ? Access.EXEC : 0),
    });
  }
}

function answer(out: Translation, hi: number, lo: number, shift: number, perms: number): number {
  out.hi = hi;
  out.lo = lo;
  out.shift = shift;
  out.perms = perms;
  return TranslationStatus.OK;
}
