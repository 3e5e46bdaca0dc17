/**
 * From a source-id and a PASID to the tables that translate for them: root, context, PASID directory and PASID table
 * (VT-d 3.4, 9.1 to 9.6), through the context cache and the PASID cache. Every way in which an entry can be wrong is
 * here; the answer is a record whose `fault` says so.
 */
import { join64, NO_PASID, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { LegacyFault, ScalableFault } from "../spec/faults.js";
import { levelsOf } from "../spec/page-table.js";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY, PASID_TABLE_SHIFT, Pgtt } from "../spec/pasid-table.js";
import { CONTEXT_ENTRY, ROOT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "../spec/root-context.js";
import type { Capabilities } from "./capabilities.js";
import { ContextCache, PasidCache } from "./config-cache.js";
import { ContextRecord, TranslationEntry } from "./config-entries.js";
import type { Request } from "./request.js";
import { reservedMask, violates } from "./reserved.js";

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
  /** The root table and mode that the last Set Root Table Pointer latched. */
  rootHi = 0;
  rootLo = 0;
  ttm = 0;
  scalable = false;
  /** Fault reason of every request in this mode; 0 when the mode can be used. */
  modeFault = 0;
  readonly #root: Int32Array;
  readonly #smRootLow: Int32Array;
  readonly #smRootHigh: Int32Array;
  readonly #context: Int32Array;
  readonly #smContext: Int32Array;
  readonly #directory: Int32Array;
  readonly #pasidEntry: Int32Array;
  /** Answer for a PASID that the context entry does not let through. */
  readonly #refused = new TranslationEntry();

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    const { context, pasid } = caps.preset.caches;
    this.contexts = new ContextCache(context);
    this.pasids = new PasidCache(pasid);
    const { haw, domainBits, ecap } = caps;
    const without = (present: boolean, ...fields: string[]) => (present ? [] : fields);
    const smRoot = reservedMask(SM_ROOT_ENTRY, { haw });
    this.#root = reservedMask(ROOT_ENTRY, { haw });
    this.#smRootLow = smRoot.slice(0, 2);
    this.#smRootHigh = smRoot.slice(2, 4);
    // SSPTPTR is ignored for pass-through: its upper bits are checked apart.
    this.#context = reservedMask(CONTEXT_ENTRY, { haw: 64, bits: domainBits < 16 ? [[72 + domainBits, 87]] : [] });
    this.#smContext = reservedMask(SM_CONTEXT_ENTRY, {
      haw,
      missing: [
        ...without(ecap.DT, "DTE"),
        ...without(ecap.PASID, "PASIDE"),
        ...without(ecap.PRS, "PRE"),
        ...without(ecap.RPS, "RID_PASID"),
        ...without(ecap.RPRIVS, "RID_PRIV"),
        ...without(ecap.PTRS, "EPTR"),
        ...without(ecap.HPTS, "HPTE"),
      ],
    });
    this.#directory = reservedMask(PASID_DIRECTORY_ENTRY, { haw });
    this.#pasidEntry = reservedMask(PASID_ENTRY, {
      haw,
      bits: domainBits < 16 ? [[64 + domainBits, 79]] : [],
      missing: [
        ...without(ecap.FSTS, "WPE", "FSPM", "FSPTPTR"),
        ...without(ecap.SSTS, "AW", "SSPTPTR"),
        ...without(ecap.SSADS, "SSADE"),
        ...without(ecap.MTS, "CD", "EMTE", "EMT", "PAT"),
        ...without(ecap.SRS, "SRE"),
        ...without(ecap.ERS, "ERE", "SSEE"),
        ...without(ecap.EAFS, "EAFE"),
        ...without(ecap.SC, "PGSNP"),
        ...without(ecap.SMPWCS, "PWSNP"),
      ],
    });
  }

  /** Fault reason of the mode itself; 0 in legacy mode, and in scalable mode where that is supported (RTA.1, RTA.4). */
  #modeReason(): number {
    if (this.ttm === Ttm.LEGACY) return 0;
    if (this.ttm === Ttm.SCALABLE) return this.caps.ecap.SMTS ? 0 : BAD_MODE.fault;
    return this.ttm === Ttm.ABORT && this.caps.ecap.ADMS ? ABORTED.fault : BAD_MODE.fault;
  }

  /** The context entry of a source-id, from the cache or from memory. */
  context(sid: number): ContextRecord {
    const mode = this.modeFault;
    if (mode !== 0) return mode === ABORTED.fault ? ABORTED : BAD_MODE;
    const { tags, records } = this.contexts;
    let slot = tags.find(sid, 0, 0, 0);
    if (this.trace.enabled)
      this.trace.emit(slot >= 0 ? "config:hit" : "config:missed", {
        unit: this.unit,
        cache: "context",
        rid: sid,
        pasid: NO_PASID,
      });
    if (slot >= 0) return records[slot];
    slot = tags.claim(sid, 0, 0, 0);
    const record = records[slot];
    record.clear();
    record.fault = this.scalable ? this.#readScalableContext(sid, record) : this.#readLegacyContext(sid, record);
    if (record.fault !== 0) {
      record.did = 0;
      if (!this.caps.cap.CM) tags.drop(slot);
    }
    return record;
  }

  #readLegacyContext(sid: number, record: ContextRecord): number {
    const { memory } = this;
    // Root entry (9.1).
    const bus = sid >>> 8;
    let words = memory.view(this.rootHi, this.rootLo | (bus << 4), ROOT_ENTRY.words);
    if (words === null) return LegacyFault.ROOT_ACCESS.code;
    let at = memory.viewAt;
    if (this.trace.enabled) this.#read("root", bus, this.rootHi, this.rootLo | (bus << 4), words, at);
    if (ROOT_ENTRY.P.get(words, at) === 0) return LegacyFault.ROOT_NOT_PRESENT.code;
    if (violates(words, at, this.#root)) return LegacyFault.ROOT_RESERVED.code;
    // Context entry (9.3).
    const devfn = sid & 0xff;
    const tableHi = ROOT_ENTRY.CTP.hi(words, at);
    const tableLo = ROOT_ENTRY.CTP.lo(words, at) | (devfn << 4);
    words = memory.view(tableHi, tableLo, CONTEXT_ENTRY.words);
    if (words === null) return LegacyFault.CONTEXT_ACCESS.code;
    at = memory.viewAt;
    if (this.trace.enabled) this.#read("context", devfn, tableHi, tableLo, words, at);
    record.faultsDisabled = CONTEXT_ENTRY.FPD.get(words, at) === 1;
    if (CONTEXT_ENTRY.P.get(words, at) === 0) return LegacyFault.CONTEXT_NOT_PRESENT.code;
    return this.#decodeLegacyContext(words, at, record);
  }

  #decodeLegacyContext(words: Int32Array, at: number, record: ContextRecord): number {
    const { caps } = this;
    const type = CONTEXT_ENTRY.TT.get(words, at);
    const { translation } = record;
    record.did = CONTEXT_ENTRY.DID.get(words, at);
    translation.did = record.did;
    translation.ssHi = CONTEXT_ENTRY.SSPTPTR.hi(words, at);
    translation.ssLo = CONTEXT_ENTRY.SSPTPTR.lo(words, at);
    if (violates(words, at, this.#context)) return LegacyFault.CONTEXT_RESERVED.code;
    if (type !== 2 && caps.haw < 64 && translation.ssHi >>> (caps.haw - 32) !== 0)
      return LegacyFault.CONTEXT_RESERVED.code;
    // LCT.4.1, LCT.4.2
    const aw = CONTEXT_ENTRY.AW.get(words, at);
    if (!caps.widthSupported(aw)) return LegacyFault.CONTEXT_INVALID.code;
    if (type === 3 || (type === 1 && !caps.ecap.DT) || (type === 2 && !caps.ecap.PT))
      return LegacyFault.CONTEXT_INVALID.code;
    record.deviceTlb = type === 1;
    translation.pgtt = type === 2 ? Pgtt.PASS_THROUGH : Pgtt.SECOND_STAGE;
    translation.ssLevels = levelsOf(aw);
    translation.coherent = true;
    return 0;
  }

  #readScalableContext(sid: number, record: ContextRecord): number {
    const { memory } = this;
    // Scalable-mode root entry (9.2): the lower half for devfn below 0x80, the upper half above.
    const bus = sid >>> 8;
    const upper = (sid & 0x80) !== 0;
    let words = memory.view(this.rootHi, this.rootLo | (bus << 4), SM_ROOT_ENTRY.words);
    if (words === null) return ScalableFault.ROOT_ACCESS.code;
    let at = memory.viewAt;
    if (this.trace.enabled) this.#read("root", bus, this.rootHi, this.rootLo | (bus << 4), words, upper ? at + 2 : at);
    const present = upper ? SM_ROOT_ENTRY.UP : SM_ROOT_ENTRY.LP;
    const pointer = upper ? SM_ROOT_ENTRY.UCTP : SM_ROOT_ENTRY.LCTP;
    if (present.get(words, at) === 0) return ScalableFault.ROOT_NOT_PRESENT.code;
    if (violates(words, upper ? at + 2 : at, upper ? this.#smRootHigh : this.#smRootLow))
      return ScalableFault.ROOT_RESERVED.code;
    // Scalable-mode context entry (9.4).
    const devfn = sid & 0x7f;
    const tableHi = pointer.hi(words, at);
    const tableLo = pointer.lo(words, at) | (devfn << 5);
    words = memory.view(tableHi, tableLo, SM_CONTEXT_ENTRY.words);
    if (words === null) return ScalableFault.CONTEXT_ACCESS.code;
    at = memory.viewAt;
    if (this.trace.enabled) this.#read("context", devfn, tableHi, tableLo, words, at);
    record.faultsDisabled = SM_CONTEXT_ENTRY.FPD.get(words, at) === 1;
    if (SM_CONTEXT_ENTRY.P.get(words, at) === 0) return ScalableFault.CONTEXT_NOT_PRESENT.code;
    if (violates(words, at, this.#smContext)) return ScalableFault.CONTEXT_RESERVED.code;
    record.deviceTlb = SM_CONTEXT_ENTRY.DTE.get(words, at) === 1;
    record.paside = SM_CONTEXT_ENTRY.PASIDE.get(words, at) === 1;
    record.pre = SM_CONTEXT_ENTRY.PRE.get(words, at) === 1;
    record.directoryHi = SM_CONTEXT_ENTRY.PASIDDIRPTR.hi(words, at);
    record.directoryLo = SM_CONTEXT_ENTRY.PASIDDIRPTR.lo(words, at);
    record.directoryEntries = 1 << (SM_CONTEXT_ENTRY.PDTS.get(words, at) + 7);
    record.ridPasid = SM_CONTEXT_ENTRY.RID_PASID.get(words, at);
    record.ridPriv = SM_CONTEXT_ENTRY.RID_PRIV.get(words, at) === 1;
    // SCT.4.1, SCT.4.2
    const ridPasidFits = record.ridPasid >>> PASID_TABLE_SHIFT < record.directoryEntries;
    return (record.pre && !record.deviceTlb) || !ridPasidFits ? ScalableFault.CONTEXT_INVALID.code : 0;
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

  /** SCT.6, SCT.7, SCT.9, SGN.10: whether the context entry lets requests with that PASID through. */
  pasidFault(context: ContextRecord, pasid: number): number {
    if (pasid >>> this.caps.pasidBits !== 0) return ScalableFault.PASID_BEYOND_HARDWARE.code;
    if (!context.paside) return ScalableFault.PASIDE_CLEAR.code;
    if (pasid >>> PASID_TABLE_SHIFT >= context.directoryEntries) return ScalableFault.PASID_TOO_LARGE.code;
    if (pasid === context.ridPasid) return ScalableFault.RID_PASID_USED.code;
    return 0;
  }

  #pasid(context: ContextRecord, sid: number, pasid: number): TranslationEntry {
    const { tags, records } = this.pasids;
    let slot = tags.find(sid, pasid, 0, 0);
    if (this.trace.enabled)
      this.trace.emit(slot >= 0 ? "config:hit" : "config:missed", { unit: this.unit, cache: "pasid", rid: sid, pasid });
    if (slot >= 0) return records[slot];
    slot = tags.claim(sid, pasid, 0, 0);
    const entry = records[slot];
    entry.clear();
    entry.fault = this.#readPasid(context, pasid, entry);
    if (entry.fault !== 0) {
      entry.did = 0;
      if (!this.caps.cap.CM) tags.drop(slot);
    }
    return entry;
  }

  #readPasid(context: ContextRecord, pasid: number, entry: TranslationEntry): number {
    const { memory } = this;
    // PASID directory entry (9.5). The directory may be larger than a page: its pages are contiguous.
    const directory =
      physical(context.directoryHi, context.directoryLo) + (pasid >>> PASID_TABLE_SHIFT) * PASID_DIRECTORY_ENTRY.bytes;
    const directoryHi = Math.floor(directory / 0x1_0000_0000);
    let words = memory.view(directoryHi, directory | 0, PASID_DIRECTORY_ENTRY.words);
    if (words === null) return ScalableFault.DIRECTORY_ACCESS.code;
    let at = memory.viewAt;
    if (this.trace.enabled) this.#read("pasid-dir", pasid >>> PASID_TABLE_SHIFT, directoryHi, directory | 0, words, at);
    entry.faultsDisabled = PASID_DIRECTORY_ENTRY.FPD.get(words, at) === 1;
    if (PASID_DIRECTORY_ENTRY.P.get(words, at) === 0) return ScalableFault.DIRECTORY_NOT_PRESENT.code;
    if (violates(words, at, this.#directory)) return ScalableFault.DIRECTORY_RESERVED.code;
    // PASID table entry (9.6).
    const index = pasid & ((1 << PASID_TABLE_SHIFT) - 1);
    const tableHi = PASID_DIRECTORY_ENTRY.SMPTBLPTR.hi(words, at);
    const tableLo = PASID_DIRECTORY_ENTRY.SMPTBLPTR.lo(words, at) | (index * PASID_ENTRY.bytes);
    words = memory.view(tableHi, tableLo, PASID_ENTRY.words);
    if (words === null) return ScalableFault.PASID_ACCESS.code;
    at = memory.viewAt;
    if (this.trace.enabled) this.#read("pasid", index, tableHi, tableLo, words, at);
    if (PASID_ENTRY.FPD.get(words, at) === 1) entry.faultsDisabled = true;
    if (PASID_ENTRY.P.get(words, at) === 0) return ScalableFault.PASID_NOT_PRESENT.code;
    if (violates(words, at, this.#pasidEntry)) return ScalableFault.PASID_RESERVED.code;
    return this.#decodePasid(words, at, entry);
  }

  #decodePasid(words: Int32Array, at: number, entry: TranslationEntry): number {
    const { caps } = this;
    const { ecap } = caps;
    const pgtt = PASID_ENTRY.PGTT.get(words, at);
    entry.pgtt = pgtt;
    entry.did = PASID_ENTRY.DID.get(words, at);
    entry.pgsnp = PASID_ENTRY.PGSNP.get(words, at) === 1;
    entry.coherent = PASID_ENTRY.PWSNP.get(words, at) === 1;
    entry.sre = PASID_ENTRY.SRE.get(words, at) === 1;
    entry.ere = PASID_ENTRY.ERE.get(words, at) === 1;
    const firstStage = pgtt === Pgtt.FIRST_STAGE || pgtt === Pgtt.NESTED;
    const secondStage = pgtt === Pgtt.SECOND_STAGE || pgtt === Pgtt.NESTED;
    // SPT.4.2
    const supported =
      (pgtt === Pgtt.FIRST_STAGE && ecap.FSTS) ||
      (pgtt === Pgtt.SECOND_STAGE && ecap.SSTS) ||
      (pgtt === Pgtt.NESTED && ecap.NEST) ||
      (pgtt === Pgtt.PASS_THROUGH && ecap.PT);
    if (!supported) return ScalableFault.PASID_INVALID.code;
    if (secondStage) {
      const aw = PASID_ENTRY.AW.get(words, at);
      if (!caps.widthSupported(aw)) return ScalableFault.PASID_INVALID.code; // SPT.4.1
      entry.ssLevels = levelsOf(aw);
      entry.ssade = PASID_ENTRY.SSADE.get(words, at) === 1;
      entry.ssHi = PASID_ENTRY.SSPTPTR.hi(words, at);
      entry.ssLo = PASID_ENTRY.SSPTPTR.lo(words, at);
    }
    if (firstStage) {
      const mode = PASID_ENTRY.FSPM.get(words, at);
      if (mode > 1 || (mode === 1 && !caps.cap.FS5LP)) return ScalableFault.PASID_INVALID.code; // SPT.4.3
      entry.fsLevels = 4 + mode;
      entry.wpe = PASID_ENTRY.WPE.get(words, at) === 1;
      entry.nxe = PASID_ENTRY.NXE.get(words, at) === 1;
      entry.smep = PASID_ENTRY.SMEP.get(words, at) === 1;
      entry.eafe = PASID_ENTRY.EAFE.get(words, at) === 1;
      entry.fsHi = PASID_ENTRY.FSPTPTR.hi(words, at);
      entry.fsLo = PASID_ENTRY.FSPTPTR.lo(words, at);
      if (pgtt === Pgtt.NESTED && beyond(entry.fsHi, inputBits(entry, caps))) return ScalableFault.PASID_INVALID.code; // SPT.4.4
    }
    return 0;
  }

  /** Set Root Table Pointer. */
  setRoot(hi: number, lo: number, ttm: number): void {
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

  #read(table: string, index: number, hi: number, lo: number, words: Int32Array, at: number): void {
    this.trace.emit("table:read", {
      unit: this.unit,
      table,
      index,
      address: physical(hi, lo),
      value: join64(words[at + 1], words[at]),
    });
  }
}

/** Bits of address that a second stage takes: the least of MGAW and the levels' width. */
export function inputBits(entry: TranslationEntry, caps: Capabilities): number {
  return Math.min(caps.mgaw, 12 + 9 * entry.ssLevels);
}

/** Whether an address with that high word is above 2^bits - 1; bits is 33 … 64. */
export function beyond(hi: number, bits: number): boolean {
  return bits < 64 && hi >>> (bits - 32) !== 0;
}
