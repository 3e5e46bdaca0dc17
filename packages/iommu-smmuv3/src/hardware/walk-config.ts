/** One translation table as the CD or the STE describes it, decoded for the walker. Arm ARM D8.2. */
import { highMaskFrom, lowMaskFrom } from "./address-bits.js";

export class WalkConfig {
  /** Walks are disabled (EPDx); everything else then means nothing. */
  disabled = true;
  /** Input address bits. */
  bits = 0;
  /** log2 of the granule: 12, 14 or 16. */
  granule = 12;
  startLevel = 0;
  tableHi = 0;
  tableLo = 0;
  /** Output address bits that this table may use. */
  outputBits = 0;
  /** Descriptors carry address bits 51:48 in bits 15:12 (64 KiB granule on a 52-bit chip). */
  wide = false;
  /** The bytes of a descriptor stand the other way round (CD.ENDI, STE.S2ENDI). */
  bigEndian = false;
  /** Hierarchical attributes are ignored. */
  had = false;
  e0pd = false;
  tbi = false;

  /** `ttbHi`/`ttbLo` as it stands in the field: bits below the table's alignment are dropped. `concatenated` for stage 2. */
  set(
    bits: number,
    granule: number,
    startLevel: number,
    ttbHi: number,
    ttbLo: number,
    outputBits: number,
    oasBits: number,
  ): void {
    this.disabled = false;
    this.bits = bits;
    this.granule = granule;
    this.startLevel = startLevel;
    this.outputBits = outputBits;
    this.wide = granule === 16 && oasBits === 52;
    const indexBits = bits - levelShift(granule, startLevel);
    const align = Math.max(indexBits + 3, outputBits === 52 ? 6 : 4);
    this.tableHi = ttbHi & highMaskFrom(align);
    this.tableLo = ttbLo & lowMaskFrom(align);
  }
}

/** log2 of the range that one entry of a level covers. */
export function levelShift(granule: number, level: number): number {
  return granule + (3 - level) * (granule - 3);
}

/** The level at which a stage 1 walk of `bits` input bits starts. */
export function startLevelOf(granule: number, bits: number): number {
  return 4 - Math.ceil((bits - granule) / (granule - 3));
}

/** log2 of the entries in a contiguous set (Arm ARM D8.7.1); 0 where the level has none. */
export function contiguousEntries(granule: number, level: number): number {
  if (granule === 12) return level >= 1 ? 4 : 0;
  if (granule === 14) return level === 3 ? 7 : level === 2 ? 5 : 0;
  return level >= 2 ? 5 : 0;
}

/** Block descriptors are permitted (Arm ARM D8.3.1). */
export function blockAllowed(granule: number, level: number, oasBits: number): boolean {
  if (granule === 12) return level === 1 || level === 2;
  if (granule === 14) return level === 2;
  return level === 2 || (level === 1 && oasBits === 52);
}
