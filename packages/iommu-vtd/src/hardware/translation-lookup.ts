/**
 * The translation of a request: IOTLB, then configuration and tables, then permissions (VT-d 3.6 to 3.9, 6.2.4.1). The data
 * plane: no allocation, numbers only; the fields hold the last answer.
 */
import { Access, join64, NO_PASID, physical, type Tracer } from "@iommukit/core";
import { ScalableFault } from "../spec/faults.js";
import type { Capabilities } from "./capabilities.js";
import type { TranslationEntry } from "./config-entries.js";
import type { ConfigLookup } from "./config-lookup.js";
import { AddressType, meetsInterruptRange, type Request } from "./request.js";
import { denial, disabledRequest, granted, permsOf, Right, withAllowed } from "./rights.js";
import { enables, type TableWalk } from "./table-walk.js";
import { ownOf } from "./tag-cache.js";
import { faultOf, type Iotlb, IotlbWord, kindOf, pageShift, pgttOf, shiftOf } from "./translation-cache.js";

const { PA_HI, PA_LO, RIGHTS, KIND } = IotlbWord;

export interface LookupParts {
  readonly unit: string;
  readonly caps: Capabilities;
  readonly config: ConfigLookup;
  readonly walk: TableWalk;
  readonly iotlb: Iotlb;
  readonly trace: Tracer;
}

export class TranslationLookup {
  /** Physical address, log2 of the page, and Right bits. */
  hi = 0;
  lo = 0;
  shift = 12;
  rights = 0;

  readonly #unit: string;
  readonly #config: ConfigLookup;
  readonly #iotlb: Iotlb;
  readonly #walk: TableWalk;
  readonly #trace: Tracer;
  readonly #caps: Capabilities;

  constructor({ unit, caps, config, walk, iotlb, trace }: LookupParts) {
    this.#unit = unit;
    this.#caps = caps;
    this.#config = config;
    this.#walk = walk;
    this.#iotlb = iotlb;
    this.#trace = trace;
  }

  #set(at: number, paHi: number, paLo: number, rights: number, kind: number): void {
    const { words } = this.#iotlb.tags;
    words[at + PA_HI] = paHi;
    words[at + PA_LO] = paLo;
    words[at + RIGHTS] = rights;
    words[at + KIND] = kind;
  }

  /** RTA.1, RTA.2, RTA.4, RTA.5 */
  modeFault(request: Request): number {
    const config = this.#config;
    if (config.modeFault !== 0) return config.modeFault;
    if (request.pasid === NO_PASID) return 0;
    if (!config.scalable) return ScalableFault.LEGACY_WITH_PASID.code;
    return (request.access & Access.EXEC) !== 0 && this.#caps.majorVersion >= 8
      ? ScalableFault.EXECUTE_REQUESTED.code
      : 0;
  }

  /** IOTLB, then configuration and walk; the answer is in the fields. @returns fault reason */
  find(request: Request): number {
    const iotlb = this.#iotlb;
    const trace = this.#trace;
    const mode = this.modeFault(request);
    if (mode !== 0) return mode;
    const slot = iotlb.find(request.rid, request.pasid, request.hi, request.lo);
    const hit = slot >= 0 && !this.#mustMarkDirty(slot, request);
    if (trace.enabled) {
      const { rid, pasid, hi, lo } = request;
      trace.emit(hit ? "tlb:hit" : "tlb:missed", {
        unit: this.#unit,
        rid,
        pasid,
        address: join64(hi, lo),
        cache: "iotlb",
      });
    }
    return hit ? this.#useEntry(slot, request) : this.#throughTables(request);
  }

  #rights(slot: number): number {
    const { tags } = this.#iotlb;
    return tags.words[ownOf(slot) + RIGHTS];
  }

  /** A permitted write to a page that is not marked dirty yet goes through the tables again. */
  #mustMarkDirty(slot: number, request: Request): boolean {
    const rights = this.#rights(slot);
    if ((request.access & Access.WRITE) === 0 || (rights & Right.DIRTY) !== 0) return false;
    return (permsOf(rights, this.#supervisor(request, rights)) & Access.WRITE) !== 0;
  }

  /** Privilege of a request that an IOTLB entry serves: its own, or what the context entry gave requests without PASID. */
  #supervisor(request: Request, rights: number): boolean {
    return request.pasid === NO_PASID ? (rights & Right.RID_PRIV) !== 0 : request.supervisor;
  }

  #useEntry(slot: number, request: Request): number {
    const { words } = this.#iotlb.tags;
    const at = ownOf(slot);
    const rights = words[at + RIGHTS];
    const kind = words[at + KIND];
    request.faultsDisabled = (rights & Right.FPD) !== 0;
    request.supervisor = this.#supervisor(request, rights);
    if (faultOf(kind) !== 0) return faultOf(kind);
    const shift = shiftOf(kind);
    this.#take(words[at + PA_HI], words[at + PA_LO] | (request.lo & ((1 << shift) - 1)), shift, rights);
    return this.#permission(request, pgttOf(kind));
  }

  #take(hi: number, lo: number, shift: number, rights: number): void {
    this.hi = hi;
    this.lo = lo;
    this.shift = shift;
    this.rights = rights;
  }

  /** Enables of the PASID table entry, then access rights. A translation request gets what is permitted. */
  #permission(request: Request, pgtt: number): number {
    const { scalable } = this.#config;
    const disabled = scalable ? disabledRequest(this.rights, request) : 0;
    if (disabled !== 0 || request.type === AddressType.TRANSLATION_REQUEST) return disabled;
    return granted(this.rights, request, this.#caps.cap.ZLR) ? 0 : denial(this.rights, request, pgtt, scalable);
  }

  #throughTables(request: Request): number {
    const config = this.#config;
    const walk = this.#walk;
    const caps = this.#caps;
    const context = config.context(request.rid);
    request.faultsDisabled = context.faultsDisabled;
    if (context.fault !== 0) return context.fault;
    const entry = config.translation(context, request);
    request.faultsDisabled ||= entry.faultsDisabled;
    if (entry.fault !== 0) return entry.fault;
    const enabled =
      enables(entry) |
      (request.faultsDisabled ? Right.FPD : 0) |
      (request.pasid === NO_PASID && request.supervisor ? Right.RID_PRIV : 0);
    const disabled = config.scalable ? disabledRequest(enabled, request) : 0;
    if (disabled !== 0) return disabled;
    const fault = walk.walk(entry, request, config.scalable);
    if (fault !== 0) {
      if (caps.cap.CM && !entry.hasFirstStage) this.#fill(request, entry, 0, 0, 12, enabled, fault);
      return fault;
    }
    this.#take(walk.hi, walk.lo, pageShift(walk.shift), walk.rights | enabled);
    const denied = this.#permission(request, entry.pgtt);
    // What faults, or permits a translation request nothing, only caching mode keeps (6.2.4.1).
    const permits = denied === 0 && permsOf(walk.rights, request.supervisor) !== 0;
    if (permits || (caps.cap.CM && !entry.hasFirstStage))
      this.#fill(request, entry, this.hi, this.lo, this.shift, this.rights, 0);
    return denied;
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
    const trace = this.#trace;
    const { rid, pasid, hi, lo } = request;
    const at = this.#iotlb.fill(rid, pasid, hi, lo, shift, request.effectivePasid);
    const near = meetsInterruptRange(paHi, paLo, shift) || (pasid === NO_PASID && meetsInterruptRange(hi, lo, shift));
    const held = near ? rights | Right.NEAR_INTERRUPTS : rights;
    const served = fault === 0 ? withAllowed(held) : held;
    this.#set(at, paHi, paLo & (-1 << shift), served, kindOf(shift, entry.pgtt, fault, entry.did));
    if (trace.enabled) {
      trace.emit("tlb:filled", {
        unit: this.#unit,
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
