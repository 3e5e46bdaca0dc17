/**
 * The way of one request through the unit (VT-d 3.4 to 3.15, 4.2): IOTLB, configuration, tables, permissions. Every request
 * that ends in a fault is recorded here. The data plane: no allocation, numbers only.
 */
import {
  Access,
  type AtsCompletion,
  AtsStatus,
  join64,
  NO_PASID,
  physical,
  type Tracer,
  type Translation,
  TranslationStatus,
} from "@iommukit/core";
import { FAULT_REASONS, InterruptFault, LegacyFault, ScalableFault } from "../spec/faults.js";
import { atsStatus, emptyCompletion, fillCompletion, interruptCompletion, recordedForAts } from "./ats.js";
import type { Capabilities } from "./capabilities.js";
import type { TranslationEntry } from "./config-entries.js";
import { beyond, type ConfigLookup } from "./config-lookup.js";
import type { FaultRecording } from "./fault-recording.js";
import type { GlobalCommand } from "./global-command.js";
import type { InterruptRemapping } from "./interrupt-remapping.js";
import type { ProtectedMemory } from "./protected-memory.js";
import { AddressType, inInterruptRange, Request } from "./request.js";
import { denial, disabledRequest, granted, permsOf, Right } from "./rights.js";
import type { TableWalk } from "./table-walk.js";
import { type Iotlb, pageShift } from "./translation-cache.js";

export interface RequestParts {
  readonly unit: string;
  readonly caps: Capabilities;
  readonly config: ConfigLookup;
  readonly walk: TableWalk;
  readonly iotlb: Iotlb;
  readonly faults: FaultRecording;
  readonly global: GlobalCommand;
  readonly interrupts: InterruptRemapping;
  readonly protectedMemory: ProtectedMemory;
  readonly trace: Tracer;
}

const ANY = Access.READ | Access.WRITE | Access.EXEC;

/** Translated requests that end as Completer Abort; all others are Unsupported Requests. */
const TRANSLATED_ABORTS = new Uint8Array(256);
for (const { code, translatedRequest } of FAULT_REASONS) if (translatedRequest === "CA") TRANSLATED_ABORTS[code] = 1;

export class RequestPath {
  readonly #request = new Request();
  /** The last lookup's answer: address, page size and rights. */
  #hi = 0;
  #lo = 0;
  #shift = 12;
  #rights = 0;

  constructor(private readonly parts: RequestParts) {}

  /** @returns TranslationStatus */
  translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    if (this.#hit(rid, pasid, hi, lo, access, out)) return TranslationStatus.OK;
    const translated = (access & Access.TRANSLATED) !== 0;
    const request = this.#request;
    request.start(rid, pasid, hi, lo, access, translated ? AddressType.TRANSLATED : AddressType.UNTRANSLATED);
    const status = translated ? this.#translated(request, out) : this.#untranslated(request, out);
    if (this.parts.trace.enabled) this.#traceEnd(translated ? "translated" : "untranslated", status, out.hi, out.lo);
    return status;
  }

  /** The common case, and nothing else: a plain read or write that an IOTLB entry permits, with nobody listening. */
  #hit(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): boolean {
    const { global, config, iotlb, trace } = this.parts;
    if (
      (access & ~(Access.READ | Access.WRITE)) !== 0 ||
      trace.enabled ||
      !global.translating ||
      config.modeFault !== 0
    )
      return false;
    if (pasid !== NO_PASID && !config.scalable) return false;
    const slot = iotlb.find(rid, pasid, hi, lo);
    if (slot < 0) return false;
    const rights = iotlb.rights[slot];
    const needed = (access & Access.WRITE) !== 0 ? access | Right.DIRTY : access;
    if ((needed & ~rights) !== 0 || (rights & Right.RID_PRIV) !== 0) return false;
    const shift = iotlb.shift[slot];
    const paHi = iotlb.paHi[slot];
    const paLo = iotlb.paLo[slot] | (lo & ((1 << shift) - 1));
    if (inInterruptRange(paHi, paLo)) return false;
    answer(out, paHi, paLo, shift, permsOf(rights, false));
    return true;
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
    const { global, protectedMemory, faults } = this.parts;
    if (request.pasid === NO_PASID && request.inInterruptRange) return this.#interruptRange(request, out);
    if (!global.translating) {
      if (protectedMemory.blocks(request.hi, request.lo)) return TranslationStatus.ABORTED;
      return answer(out, request.hi, request.lo, 12, ANY);
    }
    let fault = this.#lookup(request);
    if (fault === 0 && inInterruptRange(this.#hi, this.#lo)) fault = this.#interruptAddress;
    if (fault !== 0) {
      faults.report(fault, request);
      return TranslationStatus.FAULT;
    }
    return answer(out, this.#hi, this.#lo, this.#shift, permsOf(this.#rights, request.supervisor));
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
    if (fault === 0) return answer(out, request.hi, request.lo, 12, ANY);
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
    const mode = this.#modeFault(request);
    if (mode !== 0) return mode;
    const refused = this.#deviceTlbFault(request);
    if (refused !== 0) return refused;
    if (request.pasid === NO_PASID && request.inInterruptRange) {
      interruptCompletion(request, out);
      return 0;
    }
    const fault = this.#lookup(request);
    if (fault !== 0) return fault;
    if (this.#hi === 0 && (0xfee0_0000 ^ this.#lo) >>> Math.max(this.#shift, 20) === 0) return this.#interruptAddress;
    fillCompletion(this.parts.caps, request, this.#rights, this.#hi, this.#lo, this.#shift, out);
    return 0;
  }

  /** RTA.1, RTA.2, RTA.4, RTA.5 */
  #modeFault(request: Request): number {
    const { config, caps } = this.parts;
    if (config.modeFault !== 0) return config.modeFault;
    if (request.pasid === NO_PASID) return 0;
    if (!config.scalable) return ScalableFault.LEGACY_WITH_PASID.code;
    return (request.access & Access.EXEC) !== 0 && caps.majorVersion >= 8 ? ScalableFault.EXECUTE_REQUESTED.code : 0;
  }

  /** IOTLB, then configuration and walk. Leaves address, size and rights in the fields. @returns fault reason */
  #lookup(request: Request): number {
    const { iotlb, trace } = this.parts;
    const mode = this.#modeFault(request);
    if (mode !== 0) return mode;
    const slot = iotlb.find(request.rid, request.pasid, request.hi, request.lo);
    const hit = slot >= 0 && !this.#mustMarkDirty(slot, request);
    if (trace.enabled) {
      const { rid, pasid, hi, lo } = request;
      trace.emit(hit ? "tlb:hit" : "tlb:missed", {
        unit: this.parts.unit,
        rid,
        pasid,
        address: join64(hi, lo),
        cache: "iotlb",
      });
    }
    return hit ? this.#useEntry(slot, request) : this.#throughTables(request);
  }

  /** A permitted write to a page that is not marked dirty yet goes through the tables again. */
  #mustMarkDirty(slot: number, request: Request): boolean {
    const rights = this.parts.iotlb.rights[slot];
    if ((request.access & Access.WRITE) === 0 || (rights & Right.DIRTY) !== 0) return false;
    return (permsOf(rights, this.#supervisor(request, rights)) & Access.WRITE) !== 0;
  }

  /** Privilege of a request that an IOTLB entry serves: its own, or what the context entry gave requests without PASID. */
  #supervisor(request: Request, rights: number): boolean {
    return request.pasid === NO_PASID ? (rights & Right.RID_PRIV) !== 0 : request.supervisor;
  }

  #useEntry(slot: number, request: Request): number {
    const { iotlb } = this.parts;
    const rights = iotlb.rights[slot];
    request.faultsDisabled = (rights & Right.FPD) !== 0;
    request.supervisor = this.#supervisor(request, rights);
    if (iotlb.fault[slot] !== 0) return iotlb.fault[slot];
    const shift = iotlb.shift[slot];
    this.#take(iotlb.paHi[slot], iotlb.paLo[slot] | (request.lo & ((1 << shift) - 1)), shift, rights);
    return this.#permission(request, iotlb.pgtt[slot]);
  }

  #take(hi: number, lo: number, shift: number, rights: number): void {
    this.#hi = hi;
    this.#lo = lo;
    this.#shift = shift;
    this.#rights = rights;
  }

  /** Enables of the PASID table entry, then access rights. A translation request gets what is permitted. */
  #permission(request: Request, pgtt: number): number {
    const { config, caps } = this.parts;
    const disabled = config.scalable ? disabledRequest(this.#rights, request) : 0;
    if (disabled !== 0 || request.type === AddressType.TRANSLATION_REQUEST) return disabled;
    return granted(this.#rights, request, caps.cap.ZLR) ? 0 : denial(this.#rights, request, pgtt, config.scalable);
  }

  #throughTables(request: Request): number {
    const { config, walk, caps } = this.parts;
    const context = config.context(request.rid);
    request.faultsDisabled = context.faultsDisabled;
    if (context.fault !== 0) return context.fault;
    const entry = config.translation(context, request);
    request.faultsDisabled ||= entry.faultsDisabled;
    if (entry.fault !== 0) return entry.fault;
    const enables =
      walk.enables(entry) |
      (request.faultsDisabled ? Right.FPD : 0) |
      (request.pasid === NO_PASID && request.supervisor ? Right.RID_PRIV : 0);
    const disabled = config.scalable ? disabledRequest(enables, request) : 0;
    if (disabled !== 0) return disabled;
    const fault = walk.walk(entry, request, config.scalable);
    if (fault !== 0) {
      if (caps.cap.CM && !entry.hasFirstStage) this.#fill(request, entry, 0, 0, 12, enables, fault);
      return fault;
    }
    this.#take(walk.hi, walk.lo, pageShift(walk.shift), walk.rights | enables);
    // A translation that permits nothing is a fault, which only caching mode keeps (6.2.4.1).
    const permits = (permsOf(walk.rights, false) | permsOf(walk.rights, true)) !== 0;
    if (permits || (caps.cap.CM && !entry.hasFirstStage))
      this.#fill(request, entry, this.#hi, this.#lo, this.#shift, this.#rights, 0);
    return this.#permission(request, entry.pgtt);
  }

  #fill(
    request: Request,
    entry: TranslationEntry,
    paHi: number,
    paLo: number,
    shift: number,
    rights: number,
    fault: number,
  ): void {
    const { iotlb, trace } = this.parts;
    const { rid, pasid, hi, lo } = request;
    const slot = iotlb.fill(rid, pasid, hi, lo, shift, entry.did, request.effectivePasid);
    iotlb.paHi[slot] = paHi;
    iotlb.paLo[slot] = paLo & (-1 << shift);
    iotlb.rights[slot] = rights;
    iotlb.pgtt[slot] = entry.pgtt;
    iotlb.fault[slot] = fault;
    if (trace.enabled) {
      trace.emit("tlb:filled", {
        unit: this.parts.unit,
        rid,
        pasid,
        address: join64(hi, lo),
        cache: "iotlb",
        pa: physical(paHi, paLo),
        size: 2 ** shift,
      });
    }
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

  #traceEnd(kind: "untranslated" | "translated", status: number, paHi: number, paLo: number): void {
    const { rid, pasid, hi, lo, access } = this.#request;
    const { unit, trace } = this.parts;
    trace.emit("translate:completed", {
      unit,
      rid,
      pasid,
      address: join64(hi, lo),
      access,
      kind,
      status,
      pa: physical(paHi, paLo),
    });
  }
}

function answer(out: Translation, hi: number, lo: number, shift: number, perms: number): number {
  out.hi = hi;
  out.lo = lo;
  out.shift = shift;
  out.perms = perms;
  out.stag = 0;
  return TranslationStatus.OK;
}
