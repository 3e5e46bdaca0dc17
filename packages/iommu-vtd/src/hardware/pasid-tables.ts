/**
 * PASID directory and PASID table in memory (VT-d 9.5, 9.6): from a PASID to the tables that translate for it, and every way in
 * which these entries can be wrong.
 */
import { join64, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { ScalableFault } from "../spec/faults.js";
import { levelsOf } from "../spec/page-table.js";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY, PASID_TABLE_SHIFT, Pgtt } from "../spec/pasid-table.js";
import type { Capabilities } from "./capabilities.js";
import type { ContextRecord, TranslationEntry } from "./config-entries.js";
import { reservedMask, violates } from "./reserved.js";

export class PasidTables {
  readonly #directory: Int32Array;
  readonly #pasidEntry: Int32Array;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    const { haw, domainBits, ecap } = caps;
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
    return this.#decode(words, at, entry);
  }

  #decode(words: Int32Array, at: number, entry: TranslationEntry): number {
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
