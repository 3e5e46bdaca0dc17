/**
 * Root and context tables in memory (VT-d 3.4.2, 3.4.3, 9.1 to 9.4): from a source-id to the fields of its context entry, and
 * every way in which these entries can be wrong.
 */
import { join64, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { LegacyFault, ScalableFault } from "../spec/faults.js";
import { levelsOf } from "../spec/page-table.js";
import { PASID_TABLE_SHIFT, Pgtt } from "../spec/pasid-table.js";
import { CONTEXT_ENTRY, ROOT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "../spec/root-context.js";
import type { Capabilities } from "./capabilities.js";
import type { ContextRecord } from "./config-entries.js";
import { reservedMask, violates } from "./reserved.js";

export class ContextTables {
  readonly #root: Int32Array;
  readonly #smRootLow: Int32Array;
  readonly #smRootHigh: Int32Array;
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
  }

  /** Fills `record` from the tables below that root. @returns fault reason */
  read(sid: number, scalable: boolean, rootHi: number, rootLo: number, record: ContextRecord): number {
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
    record.faultsDisabled = CONTEXT_ENTRY.FPD.get(words, at) === 1;
    if (CONTEXT_ENTRY.P.get(words, at) === 0) return LegacyFault.CONTEXT_NOT_PRESENT.code;
    return this.#decodeLegacy(words, at, record);
  }

  #decodeLegacy(words: Int32Array, at: number, record: ContextRecord): number {
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

  #scalable(sid: number, rootHi: number, rootLo: number, record: ContextRecord): number {
    const { memory } = this;
    // Scalable-mode root entry (9.2): the lower half for devfn below 0x80, the upper half above.
    const bus = sid >>> 8;
    const upper = (sid & 0x80) !== 0;
    let words = memory.view(rootHi, rootLo | (bus << 4), SM_ROOT_ENTRY.words);
    if (words === null) return ScalableFault.ROOT_ACCESS.code;
    let at = memory.viewAt;
    if (this.trace.enabled) this.#read("root", bus, rootHi, rootLo | (bus << 4), words, upper ? at + 2 : at);
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
