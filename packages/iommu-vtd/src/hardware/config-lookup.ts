/**
 * From a source-id and a PASID to the tables that translate for them: root, context, PASID directory and PASID table
 * (VT-d 3.4), through the context cache and the PASID cache. The answer is a record; when an entry is wrong, its `fault`
 * says so.
 */
import { NO_PASID, type PhysicalMemory, RecentAnswers, type Tracer } from "@iommukit/core";
import { ScalableFault } from "../spec/faults.js";
import { PASID_TABLE_SHIFT } from "../spec/pasid-table.js";
import type { Capabilities } from "./capabilities.js";
import { ContextCache, PasidCache } from "./config-cache.js";
import { ContextRecord, FPD, TranslationEntry } from "./config-entries.js";
import { ContextTables } from "./context-tables.js";
import { FoundConfig } from "./found-config.js";
import { PasidTables } from "./pasid-tables.js";
import type { Request } from "./request.js";

/** Translation table modes of RTADDR. */
export const Ttm = { LEGACY: 0, SCALABLE: 1, RESERVED: 2, ABORT: 3 } as const;

/** Answer of `context` in a mode without context tables; only its fault counts. */
function refusing(code: number): ContextRecord {
  const record = new ContextRecord();
  record.fault = code;
  return record;
}

const BAD_MODE = refusing(ScalableFault.ROOT_TABLE_ADDRESS.code);
const ABORTED = refusing(ScalableFault.ABORT_DMA.code);

export class ConfigLookup {
  readonly contexts: ContextCache;
  readonly pasids: PasidCache;
  /** None of them counts once a configuration cache has changed. */
  readonly found = new RecentAnswers(() => new FoundConfig());
  /** The root table and mode that the last Set Root Table Pointer latched. */
  rootHi = 0;
  rootLo = 0;
  ttm = 0;
  scalable = false;
  /** Fault reason of every request in this mode; 0 when the mode can be used. */
  modeFault = 0;
  readonly #contextTables: ContextTables;
  readonly #pasidTables: PasidTables;
  /** Answer for a PASID that the context entry does not let through. */
  readonly #refused = new TranslationEntry();

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    const { context, pasid } = caps.preset.caches;
    this.contexts = new ContextCache(context, this.found);
    this.pasids = new PasidCache(pasid, this.found);
    this.#contextTables = new ContextTables(unit, caps, memory, trace);
    this.#pasidTables = new PasidTables(unit, caps, memory, trace);
  }

  /** Fault reason of the mode itself; 0 in legacy mode, and in scalable mode where that is supported (RTA.1, RTA.4). */
  #modeReason(): number {
    if (this.ttm === Ttm.LEGACY) return 0;
    if (this.ttm === Ttm.SCALABLE) return this.caps.ecap.SMTS ? 0 : BAD_MODE.fault;
    return this.ttm === Ttm.ABORT && this.caps.ecap.ADMS ? ABORTED.fault : BAD_MODE.fault;
  }

  /** TTM is reserved, or a mode that the unit does not have (RTA.1). */
  get badMode(): boolean {
    return this.modeFault === BAD_MODE.fault;
  }

  /** The context entry of a source-id, from the cache or from memory. */
  context(sid: number): ContextRecord {
    const mode = this.modeFault;
    if (mode !== 0) return mode === ABORTED.fault ? ABORTED : BAD_MODE;
    const { tags } = this.contexts;
    let slot = tags.size === 0 ? -1 : tags.find(sid, 0, 0, 0);
    if (this.trace.enabled)
      this.trace.emit(slot >= 0 ? "config:hit" : "config:missed", {
        unit: this.unit,
        cache: "context",
        rid: sid,
        pasid: NO_PASID,
      });
    if (slot >= 0) return this.contexts.records[slot];
    slot = tags.claim(sid, 0, 0, 0);
    const record = this.contexts.record(slot);
    const fault = this.#contextTables.read(sid, this.scalable, this.rootHi, this.rootLo, record);
    record.fault = fault;
    if (fault !== 0) {
      record.refuse(fault);
      if (!this.caps.cap.CM) tags.drop(slot);
    }
    return record;
  }

  /**
   * The entry that translates the request; sets the request's effective PASID and privilege. In scalable mode the PASID is
   * checked against the context entry first.
   */
  translation(context: ContextRecord, request: Request): TranslationEntry {
    if (!this.scalable) {
      request.effectivePasid = 0;
      return context.translation;
    }
    const refusal = request.pasid === NO_PASID ? 0 : this.pasidFault(context, request.pasid);
    if (refusal !== 0) {
      this.#refused.fault = refusal;
      return this.#refused;
    }
    if (request.pasid === NO_PASID) {
      request.effectivePasid = context.ridPasid;
      request.supervisor = context.ridPriv;
    }
    return this.#pasid(context, request.rid, request.effectivePasid);
  }

  /** What a source-id and a PASID lead to in scalable mode, with nobody listening. */
  renew(sid: number, pasid: number, found: FoundConfig): void {
    found.refuse();
    const context = this.context(sid);
    if (context.fault !== 0 || (context.word0 & FPD) !== 0 || this.pasidFault(context, pasid) !== 0) return;
    const entry = this.#pasid(context, sid, pasid);
    if (entry.fault !== 0 || (entry.word0 & FPD) !== 0) return;
    found.set(entry, this.memory);
    const { context: contexts, pasid: pasids } = this.caps.preset.caches;
    if (contexts === 0 && pasids === 0)
      found.uncached = found.kept.keep(this.memory, this.#contextTables, this.#pasidTables) ? 1 : 0;
    if ((contexts === 0 || pasids === 0) && found.uncached === 0) return;
    found.remember(sid, pasid);
    this.found.give(found);
  }

  /** SCT.6, SCT.7, SCT.9, SGN.10: whether the context entry lets requests with that PASID through. */
  pasidFault(context: ContextRecord, pasid: number): number {
    if (pasid >>> this.caps.pasidBits !== 0) return ScalableFault.PASID_BEYOND_HARDWARE.code;
    if (!context.paside) return ScalableFault.PASIDE_CLEAR.code;
    if (pasid >>> PASID_TABLE_SHIFT >= context.directoryEntries) return ScalableFault.PASID_TOO_LARGE.code;
    if (pasid === context.ridPasid) return ScalableFault.RID_PASID_USED.code;
    return 0;
  }

  #pasid(context: ContextRecord, sid: number, pasid: number): TranslationEntry {
    const { tags } = this.pasids;
    let slot = tags.size === 0 ? -1 : tags.find(sid, pasid, 0, 0);
    if (this.trace.enabled)
      this.trace.emit(slot >= 0 ? "config:hit" : "config:missed", { unit: this.unit, cache: "pasid", rid: sid, pasid });
    if (slot >= 0) return this.pasids.records[slot];
    slot = tags.claim(sid, pasid, 0, 0);
    const entry = this.pasids.record(slot);
    const fault = this.#pasidTables.read(context, pasid, entry);
    entry.fault = fault;
    if (fault !== 0) {
      entry.refuse(fault);
      if (!this.caps.cap.CM) tags.drop(slot);
    }
    return entry;
  }

  /** Set Root Table Pointer. */
  setRoot(hi: number, lo: number, ttm: number): void {
    this.found.forget();
    this.rootHi = hi;
    this.rootLo = lo;
    this.ttm = ttm;
    this.scalable = ttm === Ttm.SCALABLE;
    this.modeFault = this.#modeReason();
  }

  reset(): void {
    this.setRoot(0, 0, 0);
    this.contexts.invalidateAll();
    this.pasids.invalidateAll();
  }
}
