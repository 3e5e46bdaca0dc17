/**
 * The translation of a request: IOTLB, then configuration and tables, then permissions (VT-d 3.6 to 3.9, 6.2.4.1). The data
 * plane: no allocation, numbers only; the fields hold the last answer.
 */
import { Access, join64, NO_PASID, physical, type Tracer } from "@iommukit/core";
import { ScalableFault } from "../spec/faults.js";
import type { Capabilities } from "./capabilities.js";
import type { TranslationEntry } from "./config-entries.js";
import type { ConfigLookup } from "./config-lookup.js";
import type { QuickWalk } from "./quick-walk.js";
import { AddressType, inInterruptRange, type Request } from "./request.js";
import { denial, disabledRequest, granted, permsOf, Right } from "./rights.js";
import type { TableWalk } from "./table-walk.js";
import { type Iotlb, pageShift } from "./translation-cache.js";

export interface LookupParts {
  readonly unit: string;
  readonly caps: Capabilities;
  readonly config: ConfigLookup;
  readonly walk: TableWalk;
  readonly quick: QuickWalk;
  readonly iotlb: Iotlb;
  readonly trace: Tracer;
}

export class TranslationLookup {
  /** Physical address, log2 of the page, and Right bits. */
  hi = 0;
  lo = 0;
  shift = 12;
  rights = 0;

  constructor(private readonly parts: LookupParts) {}

  /** The common case, and nothing else: a plain read or write that an IOTLB entry or the common walk permits, with nobody listening. */
  hit(rid: number, pasid: number, hi: number, lo: number, access: number): boolean {
    const { config, iotlb, trace } = this.parts;
    if ((access & ~(Access.READ | Access.WRITE)) !== 0 || trace.enabled || config.modeFault !== 0) return false;
    if (pasid === NO_PASID ? inInterruptRange(hi, lo) : !config.scalable) return false;
    const slot = iotlb.find(rid, pasid, hi, lo);
    if (slot < 0) return pasid !== NO_PASID && this.#quickly(rid, pasid, hi, lo, access);
    const rights = iotlb.rights[slot];
    const needed = (access & Access.WRITE) !== 0 ? access | Right.DIRTY : access;
    if ((needed & ~rights) !== 0 || (rights & Right.RID_PRIV) !== 0) return false;
    const shift = iotlb.shift[slot];
    const paHi = iotlb.paHi[slot];
    const paLo = iotlb.paLo[slot] | (lo & ((1 << shift) - 1));
    if (inInterruptRange(paHi, paLo)) return false;
    this.#take(paHi, paLo, shift, rights);
    return true;
  }

  /** A miss that cached configuration and the common walk answer. */
  #quickly(rid: number, pasid: number, hi: number, lo: number, access: number): boolean {
    const { config, iotlb, walk, quick } = this.parts;
    const entry = config.cached(rid, pasid);
    if (entry === null || !quick.page(entry, pasid, hi, lo, access)) return false;
    const rights = quick.rights | walk.enables(entry);
    this.#take(quick.hi, quick.lo | (lo & 0xfff), 12, rights);
    if (iotlb.tags.capacity === 0) return true;
    const slot = iotlb.fill(rid, pasid, hi, lo, 12, entry.did, pasid);
    iotlb.paHi[slot] = quick.hi;
    iotlb.paLo[slot] = quick.lo;
    iotlb.rights[slot] = rights;
    iotlb.pgtt[slot] = entry.pgtt;
    iotlb.fault[slot] = 0;
    return true;
  }

  /** RTA.1, RTA.2, RTA.4, RTA.5 */
  modeFault(request: Request): number {
    const { config, caps } = this.parts;
    if (config.modeFault !== 0) return config.modeFault;
    if (request.pasid === NO_PASID) return 0;
    if (!config.scalable) return ScalableFault.LEGACY_WITH_PASID.code;
    return (request.access & Access.EXEC) !== 0 && caps.majorVersion >= 8 ? ScalableFault.EXECUTE_REQUESTED.code : 0;
  }

  /** IOTLB, then configuration and walk; the answer is in the fields. @returns fault reason */
  find(request: Request): number {
    const { iotlb, trace } = this.parts;
    const mode = this.modeFault(request);
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
    this.hi = hi;
    this.lo = lo;
    this.shift = shift;
    this.rights = rights;
  }

  /** Enables of the PASID table entry, then access rights. A translation request gets what is permitted. */
  #permission(request: Request, pgtt: number): number {
    const { config, caps } = this.parts;
    const disabled = config.scalable ? disabledRequest(this.rights, request) : 0;
    if (disabled !== 0 || request.type === AddressType.TRANSLATION_REQUEST) return disabled;
    return granted(this.rights, request, caps.cap.ZLR) ? 0 : denial(this.rights, request, pgtt, config.scalable);
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
      this.#fill(request, entry, this.hi, this.lo, this.shift, this.rights, 0);
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
}
