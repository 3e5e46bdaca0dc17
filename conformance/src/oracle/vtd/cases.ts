/**
 * Random cases: tables for one request that are mostly right, with faults strewn over them. Addresses are fixed, so that a
 * case is a few 8-byte stores: root, context, PASID directory and entry, one page table per level.
 */
import type { Encodable, Random } from "@iommukit/core";
import {
  CONTEXT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_ENTRY,
  ROOT_ENTRY,
  SM_CONTEXT_ENTRY,
  SM_ROOT_ENTRY,
} from "@iommukit/iommu-vtd";
import { RID, type VtdMode } from "./board.js";

export const ROOT = 0x100_0000;
const CONTEXTS = 0x100_1000;
const DIRECTORY = 0x100_2000;
export const PASIDS = 0x100_3000;
export const QUEUE = 0x100_4000;
const TABLES = 0x101_0000;
/** Pages that requests may reach. */
const DATA = 0x1800_0000;
const DATA_PAGES = 0x8000;
/** An address where nothing is. */
const NOWHERE = 0x7_0000_0000n;
const GIB = 1n << 30n;

export interface Store {
  readonly pa: number;
  readonly value: bigint;
}

/** One paging entry on the request's way. */
export interface PathEntry {
  readonly level: number;
  readonly pa: number;
  readonly value: bigint;
}

export interface VtdCase {
  readonly stores: readonly Store[];
  readonly iova: bigint;
  readonly write: boolean;
  /** From the root down to the leaf. */
  readonly path: readonly PathEntry[];
  /** First 8 bytes of the context entry and of the PASID directory entry (0 in legacy mode). */
  readonly context: bigint;
  readonly directory: bigint;
  /** Where the request ends when nothing is wrong: a 4-byte word that is zero before. */
  readonly target: number;
}

type Fields = Readonly<Record<string, number | bigint>>;
interface Table {
  encode(values: Encodable<never>): Int32Array;
}

/**
 * Bits that are disturbed. QEMU does not check the reserved bits of a PASID directory entry or table entry, nor DTE, PASIDE, PRE,
 * RID_PASID and RID_PRIV on a unit without them: these stay as they are. Pointers only go to where no memory is.
 */
const CONTEXT_FLIPS: readonly Range[] = [
  [0, 1],
  [5, 11],
  [29, 63],
  [85, 255],
];
const DIRECTORY_FLIPS: readonly Range[] = [
  [0, 1],
  [29, 47],
];
const PASID_FLIPS: Readonly<Record<VtdMode, readonly Range[]>> = {
  legacy: [],
  ss: [
    [0, 4],
    [6, 8],
    [12, 28],
  ],
  fs: [
    [0, 1],
    [6, 8],
    [130, 131],
    [140, 156],
  ],
};

function chance(random: Random, percent: number): boolean {
  return random.below(100) < percent;
}

function random64(random: Random, bits: number): bigint {
  return ((BigInt(random.u32()) << 32n) | BigInt(random.u32())) & ((1n << BigInt(bits)) - 1n);
}

/** Bits [from, to] that may be flipped. */
type Range = readonly [from: number, to: number];

/** The entry's stores; with a chance of `flips` percent one bit is flipped. */
function entry(
  random: Random,
  pa: number,
  table: Table,
  fields: Fields,
  flips: number,
  ranges: readonly Range[],
): Store[] {
  const words = table.encode(fields as never);
  if (chance(random, flips)) {
    const [from, to] = random.pick(ranges);
    const bit = from + random.below(to - from + 1);
    words[bit >> 5] ^= 1 << (bit & 31);
  }
  return Array.from({ length: words.length / 2 }, (_, i) => ({
    pa: pa + i * 8,
    value: (BigInt(words[2 * i + 1] >>> 0) << 32n) | BigInt(words[2 * i] >>> 0),
  }));
}

/** Configuration of the case: legacy context or scalable-mode entries. */
function configuration(random: Random, mode: VtdMode, aw: number, passThrough: boolean): Store[] {
  const fpd = chance(random, 4) ? 1 : 0;
  const top = TABLES + (aw + 1) * 0x1000;
  if (mode === "legacy") {
    return [
      ...entry(random, ROOT, ROOT_ENTRY, { P: 1, CTP: CONTEXTS }, 2, [[0, 127]]),
      ...entry(
        random,
        CONTEXTS + RID * 16,
        CONTEXT_ENTRY,
        { P: 1, FPD: fpd, TT: passThrough ? 2 : 0, SSPTPTR: chance(random, 1) ? NOWHERE : top, AW: aw, DID: 7 },
        6,
        [[0, 127]],
      ),
    ];
  }
  const stage: Fields = mode === "ss" ? { PGTT: 2, AW: aw, SSPTPTR: top } : { PGTT: 1, FSPTPTR: top, PWSNP: 1 };
  const pass: Fields = { PGTT: 4, AW: mode === "ss" ? 2 : 0, PWSNP: mode === "fs" ? 1 : 0 };
  return [
    ...entry(random, ROOT, SM_ROOT_ENTRY, { LP: 1, LCTP: CONTEXTS }, 2, [[0, 63]]),
    ...entry(
      random,
      CONTEXTS + RID * 32,
      SM_CONTEXT_ENTRY,
      { P: 1, FPD: fpd, PASIDDIRPTR: DIRECTORY },
      3,
      CONTEXT_FLIPS,
    ),
    ...entry(random, DIRECTORY, PASID_DIRECTORY_ENTRY, { P: 1, SMPTBLPTR: PASIDS }, 2, DIRECTORY_FLIPS),
    ...entry(random, PASIDS, PASID_ENTRY, { P: 1, DID: 7, ...(passThrough ? pass : stage) }, 5, PASID_FLIPS[mode]),
  ];
}

/** Bits of a leaf or table entry: mostly permitting, sometimes not, now and then with one bit flipped. */
function pagingBits(random: Random, mode: VtdMode, leaf: boolean): bigint {
  let bits = mode === "fs" ? 7n : 3n;
  if (chance(random, 8)) bits &= ~(1n << BigInt(random.below(3)));
  if (mode === "fs" && chance(random, 30)) bits |= 0x20n;
  if (mode === "fs" && chance(random, 20)) bits |= 0x40n;
  if (chance(random, 7)) bits ^= 1n << BigInt(random.below(64));
  // In scalable mode QEMU accepts SNP at a leaf without snoop control.
  return mode === "ss" && leaf ? bits & ~0x800n : bits;
}

function inputAddress(random: Random, mode: VtdMode, aw: number): bigint {
  const width = mode === "fs" ? 48 : 30 + 9 * aw;
  const inside = random64(random, width) & ~3n;
  if (mode === "fs") {
    const canonical = inside >> 47n === 0n ? inside : inside | (0xffffn << 48n);
    return chance(random, 3) ? canonical ^ (1n << BigInt(47 + random.below(17))) : canonical;
  }
  return chance(random, 3) ? inside | (1n << BigInt(width + random.below(64 - width))) : inside;
}

export function randomCase(random: Random, mode: VtdMode): VtdCase {
  const aw = mode === "fs" ? 2 : 1 + random.below(2);
  const levels = aw + 2;
  const leafLevel = random.pick([1, 1, 1, 2, 2, 3]);
  const word = BigInt(DATA + random.below(DATA_PAGES) * 0x1000 + random.below(0x400) * 4);
  let iova = inputAddress(random, mode, aw);
  // The offset within the page is that of the target.
  const pageBits = (1n << BigInt(3 + 9 * leafLevel)) - 1n;
  iova = (iova & ~pageBits) | (word & pageBits);
  if (iova >> 20n === 0xfeen) iova ^= GIB;
  const passThrough = chance(random, 4);
  const interrupt = leafLevel === 1 && chance(random, 2);
  const stores = configuration(random, mode, aw, passThrough);
  const path: PathEntry[] = [];
  for (let level = levels; level >= leafLevel; level--) {
    const pa = TABLES + (level - 1) * 0x1000 + Number((iova >> BigInt(3 + 9 * level)) & 0x1ffn) * 8;
    const table = chance(random, 1) ? NOWHERE : BigInt(TABLES + (level - 2) * 0x1000);
    const page = interrupt ? 0xfee0_1000n : word & ~pageBits;
    const value =
      pagingBits(random, mode, level === leafLevel) ^ (level === leafLevel ? page | (level > 1 ? 0x80n : 0n) : table);
    path.push({ level, pa, value });
    stores.push({ pa, value });
  }
  const valueAt = (pa: number) => stores.find((store) => store.pa === pa)?.value ?? 0n;
  return {
    stores,
    iova,
    write: chance(random, 50),
    path,
    context: valueAt(CONTEXTS + RID * (mode === "legacy" ? 16 : 32)),
    directory: valueAt(DIRECTORY),
    target: Number(word),
  };
}
