/**
 * VMSAv8-64 tables of either stage (Arm ARM D8): granules of 4, 16 and 64 KiB, any start level, blocks, concatenated start
 * tables of stage 2, 52-bit addresses of the 64 KiB granule. Left out: 128-bit descriptors.
 */
import { S1_DESCRIPTOR, S2_DESCRIPTOR, TABLE_DESCRIPTOR } from "@iommukit/iommu-smmuv3";
import { hex } from "../hex.js";
import { briefly, indexText, type Walker } from "./step.js";

export interface ArmTable {
  readonly stage: 1 | 2;
  readonly base: bigint;
  /** log2 of the granule. */
  readonly granule: number;
  /** Input address bits. */
  readonly bits: number;
  readonly startLevel: number;
  /** Output address bits. */
  readonly outputBits: number;
  /** Before the name of each level: empty when there is one stage only. */
  readonly prefix: string;
  /** The physical address of a table entry: behind stage 2 it has to be found. */
  readonly place: (address: bigint) => bigint;
}

export interface Leaf {
  readonly words: Int32Array;
  readonly base: bigint;
  /** log2 of the page or block. */
  readonly shift: number;
  /** Stage 1: what APTable, PXNTable and UXNTable of the levels above take away. */
  readonly noEl0: boolean;
  readonly readOnly: boolean;
  readonly noExecute: { readonly privileged: boolean; readonly unprivileged: boolean };
}

/** Bits of an address by the encoding of IDR5.OAS, CD.IPS and STE.S2PS. */
export const OUTPUT_BITS: readonly number[] = [32, 36, 40, 42, 44, 48, 52, 52];

export const GRANULES: Readonly<Record<string, number>> = { granule4K: 12, granule16K: 14, granule64K: 16 };

export function stage1StartLevel(granule: number, bits: number): number {
  return 4 - Math.ceil((bits - granule) / (granule - 3));
}

/** STE.S2SL0 counts levels from below: level 2 of the 4 KiB granule and level 3 of the others are 0; 3 is one below that. */
export function stage2StartLevel(granule: number, sl0: number): number {
  if (granule === 12) return sl0 === 3 ? 3 : 2 - sl0;
  return 3 - sl0;
}

/** Walks to the leaf. The input address is within the table's range. */
export function walkArmTable(walker: Walker, table: ArmTable, input: bigint): Leaf {
  const { granule, stage } = table;
  const stride = granule - 3;
  const suffix = stage === 2 ? "F_TRANSLATION, S2 = 1" : "F_TRANSLATION";
  let { base } = table;
  let size = table.bits - levelShift(granule, table.startLevel);
  const above = { noEl0: false, readOnly: false, privileged: false, unprivileged: false };
  for (let level = table.startLevel; ; level++, size = stride) {
    const shift = levelShift(granule, level);
    const index = Number((input >> BigInt(shift)) & ((1n << BigInt(size)) - 1n));
    const name = `${table.prefix}L${level}[${indexText(index)}]`;
    const at = table.place(base + BigInt(index * 8));
    const words = walker.read(name, at, S1_DESCRIPTOR, (w) => describe(stage, w, level));
    const type = S1_DESCRIPTOR.Type.decode(words);
    const output = outputAddress(words, granule);
    const leaf = level === 3 ? type === "tableOrPage" : type === "block";
    if (type === "invalid" || type === "reserved" || (level === 3 && !leaf))
      walker.stop(`stops: ${stageOf(table)}level ${level} descriptor is ${type} (${suffix})`);
    if (leaf && level < 3 && !blockAllowed(granule, level))
      walker.stop(`stops: ${stageOf(table)}a block at level ${level} is none of this granule (${suffix})`);
    if (output >> BigInt(table.outputBits) !== 0n)
      walker.stop(`stops: ${stageOf(table)}level ${level} leads outside of ${table.outputBits} bits (F_ADDR_SIZE)`);
    if (leaf) {
      const { noEl0, readOnly, ...noExecute } = above;
      return { words, base: output, shift, noEl0, readOnly, noExecute };
    }
    base = output;
    if (stage === 1) takeAway(above, words);
  }
}

function takeAway(
  above: { noEl0: boolean; readOnly: boolean; privileged: boolean; unprivileged: boolean },
  words: Int32Array,
): void {
  const ap = TABLE_DESCRIPTOR.APTable.get(words);
  above.noEl0 ||= (ap & 1) !== 0;
  above.readOnly ||= (ap & 2) !== 0;
  above.privileged ||= TABLE_DESCRIPTOR.PXNTable.get(words) === 1;
  above.unprivileged ||= TABLE_DESCRIPTOR.UXNTable.get(words) === 1;
}

/** "stage 2: " where the reader could take it for the other one. */
function stageOf({ stage }: ArmTable): string {
  return stage === 2 ? "stage 2: " : "";
}

function levelShift(granule: number, level: number): number {
  return granule + (granule - 3) * (3 - level);
}

/** D8.3.1. Level 1 blocks of the 64 KiB granule are there with 52-bit addresses; without them nobody writes one. */
function blockAllowed(granule: number, level: number): boolean {
  return level === 2 || (level === 1 && granule !== 14);
}

/** Bits 15:12 are address bits 51:48 with the 64 KiB granule, and zero where addresses have 48 bits. */
function outputAddress(words: Int32Array, granule: number): bigint {
  const field = S1_DESCRIPTOR.OutputAddress.getBig(words);
  const low = field & ~((1n << BigInt(granule)) - 1n);
  return granule === 16 ? low | (((field >> 12n) & 0xfn) << 48n) : low;
}

function describe(stage: 1 | 2, words: Int32Array, level: number): string {
  const type = S1_DESCRIPTOR.Type.decode(words);
  if (type === "invalid" || type === "reserved") return String(type);
  if (type === "tableOrPage" && level < 3) return `table ${briefly(TABLE_DESCRIPTOR, words, [], ["NextLevelTable"])}`;
  const kind = level === 3 ? "page" : "block";
  return stage === 1
    ? `${kind} AP=${S1_DESCRIPTOR.AP.decode(words)} ${briefly(S1_DESCRIPTOR, words, ["AF", "nG", "PXN", "UXN"], ["OutputAddress"])}`
    : `${kind} S2AP=${S2_DESCRIPTOR.S2AP.decode(words)} XN=${S2_DESCRIPTOR.XN.decode(words)} ${briefly(S2_DESCRIPTOR, words, ["AF"], ["OutputAddress"])}`;
}

/** The text of an address that does not fit a table's input. */
export function outsideOf(table: ArmTable, address: bigint): string {
  const what = table.stage === 2 ? `the intermediate address ${hex(address)}` : "the address";
  return `stops: ${what} is outside of ${table.bits} bits (F_TRANSLATION${table.stage === 2 ? ", S2 = 1" : ""})`;
}
