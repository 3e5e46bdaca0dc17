/**
 * PASID directory and PASID table in memory (VT-d 9.5, 9.6): from a PASID to the tables that translate for it, and every way in
 * which these entries can be wrong.
 */
import { join64, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { ScalableFault } from "../spec/faults.js";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY, PASID_TABLE_SHIFT, Pgtt } from "../spec/pasid-table.js";
import { beyond } from "./address-bits.js";
import type { Capabilities } from "./capabilities.js";
import { type ContextRecord, FPD, type TranslationEntry } from "./config-entries.js";
import { reservedMask, violated16 } from "./reserved.js";

const DIRECTORY_PRESENT = PASID_DIRECTORY_ENTRY.P.lowMask;
const DIRECTORY_POINTER = PASID_DIRECTORY_ENTRY.SMPTBLPTR.lowMask;
const PRESENT = PASID_ENTRY.P.lowMask;
const DIRECTORY_ENTRY_BYTES = PASID_DIRECTORY_ENTRY.bytes;
const DIRECTORY_WORDS = PASID_DIRECTORY_ENTRY.words;
const ENTRY_BYTES = PASID_ENTRY.bytes;
const ENTRY_WORDS = PASID_ENTRY.words;
const ENTRIES_MASK = (1 << PASID_TABLE_SHIFT) - 1;
const GROUP_SHIFT = PASID_TABLE_SHIFT;
const { FIRST_STAGE, SECOND_STAGE, NESTED, PASS_THROUGH } = Pgtt;

export class PasidTables {
  /** Where the directory entry and the PASID table entry lie that were read last. */
  directoryHi = 0;
  directoryLo = 0;
  hi = 0;
  lo = 0;
  readonly #directory: Int32Array;
  readonly #pasidEntry: Int32Array;
  /** 1 for a PGTT that the unit has. */
  readonly #supported = new Int32Array(8);
  readonly #largestMode: number;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    const { haw, domainBits, ecap } = caps;
    this.#supported[FIRST_STAGE] = ecap.FSTS ? 1 : 0;
    this.#supported[SECOND_STAGE] = ecap.SSTS ? 1 : 0;
    this.#supported[NESTED] = ecap.NEST ? 1 : 0;
    this.#supported[PASS_THROUGH] = ecap.PT ? 1 : 0;
    this.#largestMode = caps.cap.FS5LP ? 1 : 0;
    const without = (present: boolean, ...fields: string[]) => (present ? [] : fields);
    this.#directory = reservedMask(PASID_DIRECTORY_ENTRY, { haw });
    this.#pasidEntry = reservedMask(PASID_ENTRY, {
      haw,
      bits: domainBits < 16 ? [[64 + domainBits, 79]] : [],
      missing: [
        ...without(ecap.FSTS, "WPE", "FSPM", "FSPTPTR"),
        ...without(ecap.SSTS, "AW", "SSPTPTR"),
        ...without(ecap.SSTS && ecap.SSADS, "SSADE"),
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
    const group = pasid >>> GROUP_SHIFT;
    const from = context.directoryLo;
    const directoryLo = (from + group * DIRECTORY_ENTRY_BYTES) | 0;
    const directoryHi = context.directoryHi + (from < 0 && directoryLo >= 0 ? 1 : 0);
    this.directoryHi = directoryHi;
    this.directoryLo = directoryLo;
    entry.word0 = 0;
    let words = memory.view(directoryHi, directoryLo, DIRECTORY_WORDS);
    if (words === null) return ScalableFault.DIRECTORY_ACCESS.code;
    let at = memory.viewAt;
    if (this.trace.enabled) this.#read("pasid-dir", group, directoryHi, directoryLo, words, at);
    const low = words[at];
    const high = words[at + 1];
    entry.word0 = low & FPD;
    if ((low & DIRECTORY_PRESENT) === 0) return ScalableFault.DIRECTORY_NOT_PRESENT.code;
    if (((low & this.#directory[0]) | (high & this.#directory[1])) !== 0) return ScalableFault.DIRECTORY_RESERVED.code;
    // PASID table entry (9.6).
    const index = pasid & ENTRIES_MASK;
    const tableLo = (low & DIRECTORY_POINTER) | (index * ENTRY_BYTES);
    this.hi = high;
    this.lo = tableLo;
    words = memory.view(high, tableLo, ENTRY_WORDS);
    if (words === null) return ScalableFault.PASID_ACCESS.code;
    at = memory.viewAt;
    if (this.trace.enabled) this.#read("pasid", index, high, tableLo, words, at);
    entry.word0 |= words[at] & FPD;
    if ((words[at] & PRESENT) === 0) return ScalableFault.PASID_NOT_PRESENT.code;
    if (violated16(words, at, this.#pasidEntry) !== 0) return ScalableFault.PASID_RESERVED.code;
    entry.take(words, at, entry.word0);
    return this.#illegal(entry);
  }

  /** SPT.4: what this unit cannot do. */
  #illegal(entry: TranslationEntry): number {
    const { caps } = this;
    const { pgtt } = entry;
    const firstStage = pgtt === FIRST_STAGE || pgtt === NESTED;
    const secondStage = pgtt === SECOND_STAGE || pgtt === NESTED;
    if (this.#supported[pgtt] === 0) return ScalableFault.PASID_INVALID.code; // SPT.4.2
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
