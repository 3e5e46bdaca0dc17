/**
 * PASID directory and PASID table in memory (VT-d 9.5, 9.6): from a PASID to the tables that translate for it, and every way in
 * which these entries can be wrong.
 */
import { join64, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { ScalableFault } from "../spec/faults.js";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY, PASID_TABLE_SHIFT, Pgtt } from "../spec/pasid-table.js";
import type { Capabilities } from "./capabilities.js";
import type { ContextRecord, TranslationEntry } from "./config-entries.js";
import { reservedMask, violates } from "./reserved.js";

const DIRECTORY_PRESENT = PASID_DIRECTORY_ENTRY.P.lowMask;
const DIRECTORY_FPD = PASID_DIRECTORY_ENTRY.FPD.lowMask;
const DIRECTORY_POINTER = PASID_DIRECTORY_ENTRY.SMPTBLPTR.lowMask;
const PRESENT = PASID_ENTRY.P.lowMask;
const FPD = PASID_ENTRY.FPD.lowMask;
const DIRECTORY_ENTRY_BYTES = PASID_DIRECTORY_ENTRY.bytes;
const ENTRY_BYTES = PASID_ENTRY.bytes;
const { FIRST_STAGE, SECOND_STAGE, NESTED, PASS_THROUGH } = Pgtt;

export class PasidTables {
  readonly #directory: Int32Array;
  readonly #pasidEntry: Int32Array;
  /** By PGTT. */
  readonly #supported: readonly boolean[];
  readonly #largestMode: number;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    const { haw, domainBits, ecap } = caps;
    const supported = new Array<boolean>(8).fill(false);
    supported[FIRST_STAGE] = ecap.FSTS;
    supported[SECOND_STAGE] = ecap.SSTS;
    supported[NESTED] = ecap.NEST;
    supported[PASS_THROUGH] = ecap.PT;
    this.#supported = supported;
    this.#largestMode = caps.cap.FS5LP ? 1 : 0;
    const without = (present: boolean, ...fields: string[]) => (present ? [] : fields);
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

  /** Fills `entry` from the tables of the context entry. @returns fault reason */
  read(context: ContextRecord, pasid: number, entry: TranslationEntry): number {
    const { memory } = this;
    // PASID directory entry (9.5). The directory may be larger than a page: its pages are contiguous.
    const group = pasid >>> PASID_TABLE_SHIFT;
    const from = context.directoryLo;
    const directoryLo = (from + group * DIRECTORY_ENTRY_BYTES) | 0;
    const directoryHi = context.directoryHi + (from < 0 && directoryLo >= 0 ? 1 : 0);
    entry.faultsDisabled = false;
    let words = memory.view(directoryHi, directoryLo, PASID_DIRECTORY_ENTRY.words);
    if (words === null) return ScalableFault.DIRECTORY_ACCESS.code;
    let at = memory.viewAt;
    if (this.trace.enabled) this.#read("pasid-dir", group, directoryHi, directoryLo, words, at);
    const low = words[at];
    const high = words[at + 1];
    entry.faultsDisabled = (low & DIRECTORY_FPD) !== 0;
    if ((low & DIRECTORY_PRESENT) === 0) return ScalableFault.DIRECTORY_NOT_PRESENT.code;
    if (((low & this.#directory[0]) | (high & this.#directory[1])) !== 0) return ScalableFault.DIRECTORY_RESERVED.code;
    // PASID table entry (9.6).
    const index = pasid & ((1 << PASID_TABLE_SHIFT) - 1);
    const tableLo = (low & DIRECTORY_POINTER) | (index * ENTRY_BYTES);
    words = memory.view(high, tableLo, PASID_ENTRY.words);
    if (words === null) return ScalableFault.PASID_ACCESS.code;
    at = memory.viewAt;
    if (this.trace.enabled) this.#read("pasid", index, high, tableLo, words, at);
    if ((words[at] & FPD) !== 0) entry.faultsDisabled = true;
    if ((words[at] & PRESENT) === 0) return ScalableFault.PASID_NOT_PRESENT.code;
    if (violates(words, at, this.#pasidEntry)) return ScalableFault.PASID_RESERVED.code;
    entry.take(words, at);
    return this.#illegal(entry);
  }

  /** SPT.4: what this unit cannot do. */
  #illegal(entry: TranslationEntry): number {
    const { caps } = this;
    const { pgtt } = entry;
    const firstStage = pgtt === FIRST_STAGE || pgtt === NESTED;
    const secondStage = pgtt === SECOND_STAGE || pgtt === NESTED;
    if (!this.#supported[pgtt]) return ScalableFault.PASID_INVALID.code; // SPT.4.2
    if (secondStage && !caps.widthSupported(entry.aw)) return ScalableFault.PASID_INVALID.code; // SPT.4.1
    if (firstStage && entry.fspm > this.#largestMode) return ScalableFault.PASID_INVALID.code; // SPT.4.3
    if (pgtt === NESTED && beyond(entry.fsHi, inputBits(entry, caps))) return ScalableFault.PASID_INVALID.code; // SPT.4.4
    return 0;
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
