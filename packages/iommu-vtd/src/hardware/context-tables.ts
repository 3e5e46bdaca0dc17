/**
 * Root and context tables in memory (VT-d 3.4.2, 3.4.3, 9.1 to 9.4): from a source-id to the fields of its context entry, and
 * every way in which these entries can be wrong.
 */
import { join64, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { LegacyFault, ScalableFault } from "../spec/faults.js";
import { PASID_TABLE_SHIFT, Pgtt } from "../spec/pasid-table.js";
import { CONTEXT_ENTRY, ROOT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "../spec/root-context.js";
import type { Capabilities } from "./capabilities.js";
import { type ContextRecord, FPD } from "./config-entries.js";
import { reservedMask, violated8, violates } from "./reserved.js";

/** Both halves of a scalable-mode root entry are alike. */
const SM_ROOT_PRESENT = SM_ROOT_ENTRY.LP.lowMask & SM_ROOT_ENTRY.UP.lowMask;
const SM_ROOT_POINTER = SM_ROOT_ENTRY.LCTP.lowMask & SM_ROOT_ENTRY.UCTP.lowMask;
const SM_ROOT_WORDS = SM_ROOT_ENTRY.words;
const SM_CONTEXT_WORDS = SM_CONTEXT_ENTRY.words;
const SM_CONTEXT_PRESENT = SM_CONTEXT_ENTRY.P.lowMask;

export class ContextTables {
  /** Where the half of the root entry and the context entry lie that were read last in scalable mode. */
  rootHi = 0;
  rootLo = 0;
  hi = 0;
  lo = 0;
  readonly #root: Int32Array;
  readonly #smRoot: Int32Array;
  readonly #context: Int32Array;
  readonly #smContext: Int32Array;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    const { haw, domainBits, ecap } = caps;
    const without = (present: boolean, ...fields: string[]) => (present ? [] : fields);
    this.#root = reservedMask(ROOT_ENTRY, { haw });
    this.#smRoot = reservedMask(SM_ROOT_ENTRY, { haw });
    // SSPTPTR is ignored for pass-through: its upper bits are checked apart.
    this.#context = reservedMask(CONTEXT_ENTRY, { haw: 64, bits: domainBits < 16 ? [[72 + domainBits, 87]] : [] });
    this.#smContext = reservedMask(SM_CONTEXT_ENTRY, {
      haw,
      missing: [
        "HPTE",
        "EPTR",
        ...without(ecap.DT, "DTE"),
        ...without(ecap.PASID, "PASIDE"),
        ...without(ecap.PRS, "PRE"),
        ...without(ecap.RPS, "RID_PASID"),
        ...without(ecap.RPRIVS, "RID_PRIV"),
      ],
    });
  }

  /** Fills `record` from the tables below that root. @returns fault reason */
  read(sid: number, scalable: boolean, rootHi: number, rootLo: number, record: ContextRecord): number {
    record.word0 = 0;
    return scalable ? this.#scalable(sid, rootHi, rootLo, record) : this.#legacy(sid, rootHi, rootLo, record);
  }

  #legacy(sid: number, rootHi: number, rootLo: number, record: ContextRecord): number {
    const { memory } = this;
    // Root entry (9.1).
    const bus = sid >>> 8;
    let words = memory.view(rootHi, rootLo | (bus << 4), ROOT_ENTRY.words);
    if (words === null) return LegacyFault.ROOT_ACCESS.code;
    let at = memory.viewAt;
    if (this.trace.enabled) this.#read("root", bus, rootHi, rootLo | (bus << 4), words, at);
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
    record.word0 = words[at] & FPD;
    if (CONTEXT_ENTRY.P.get(words, at) === 0) return LegacyFault.CONTEXT_NOT_PRESENT.code;
    return this.#decodeLegacy(words, at, record);
  }

  #decodeLegacy(words: Int32Array, at: number, record: ContextRecord): number {
    const { caps } = this;
    const type = CONTEXT_ENTRY.TT.get(words, at);
    const ssHi = CONTEXT_ENTRY.SSPTPTR.hi(words, at);
    const ssLo = CONTEXT_ENTRY.SSPTPTR.lo(words, at);
    if (violates(words, at, this.#context)) return LegacyFault.CONTEXT_RESERVED.code;
    if (type !== 2 && caps.haw < 64 && ssHi >>> (caps.haw - 32) !== 0) return LegacyFault.CONTEXT_RESERVED.code;
    // LCT.4.1, LCT.4.2
    const aw = CONTEXT_ENTRY.AW.get(words, at);
    if (!caps.widthSupported(aw)) return LegacyFault.CONTEXT_INVALID.code;
    if (type === 3 || (type === 1 && !caps.ecap.DT) || (type === 2 && !caps.ecap.PT))
      return LegacyFault.CONTEXT_INVALID.code;
    const pgtt = type === 2 ? Pgtt.PASS_THROUGH : Pgtt.SECOND_STAGE;
    record.legacy(type === 1, record.word0);
    record.translation.legacy(pgtt, CONTEXT_ENTRY.DID.get(words, at), aw, ssHi, ssLo);
    return 0;
  }

  #scalable(sid: number, rootHi: number, rootLo: number, record: ContextRecord): number {
    const { memory } = this;
    // Scalable-mode root entry (9.2): the lower half for devfn below 0x80, the upper half above.
    const bus = sid >>> 8;
    const half = (sid & 0x80) >>> 6;
    this.rootHi = rootHi;
    this.rootLo = rootLo | (bus << 4) | (half << 2);
    let words = memory.view(rootHi, rootLo | (bus << 4), SM_ROOT_WORDS);
    if (words === null) return ScalableFault.ROOT_ACCESS.code;
    let at = memory.viewAt + half;
    if (this.trace.enabled) this.#read("root", bus, rootHi, rootLo | (bus << 4), words, at);
    const low = words[at];
    const high = words[at + 1];
    if ((low & SM_ROOT_PRESENT) === 0) return ScalableFault.ROOT_NOT_PRESENT.code;
    if (((low & this.#smRoot[half]) | (high & this.#smRoot[half + 1])) !== 0) return ScalableFault.ROOT_RESERVED.code;
    // Scalable-mode context entry (9.4).
    const devfn = sid & 0x7f;
    const tableLo = (low & SM_ROOT_POINTER) | (devfn << 5);
    this.hi = high;
    this.lo = tableLo;
    words = memory.view(high, tableLo, SM_CONTEXT_WORDS);
    if (words === null) return ScalableFault.CONTEXT_ACCESS.code;
    at = memory.viewAt;
    if (this.trace.enabled) this.#read("context", devfn, high, tableLo, words, at);
    record.word0 = words[at] & FPD;
    if ((words[at] & SM_CONTEXT_PRESENT) === 0) return ScalableFault.CONTEXT_NOT_PRESENT.code;
    if (violated8(words, at, this.#smContext) !== 0) return ScalableFault.CONTEXT_RESERVED.code;
    record.take(words, at);
    // SCT.4.1, SCT.4.2
    const ridPasidFits = record.ridPasid >>> PASID_TABLE_SHIFT < record.directoryEntries;
    return (record.pre && !record.deviceTlb) || !ridPasidFits ? ScalableFault.CONTEXT_INVALID.code : 0;
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
