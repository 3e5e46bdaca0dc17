/**
 * What an io-pgtable of the Arm formats looks like: granule, levels, start level, concatenation, and the TCR or VTCR and MAIR
 * values that tell hardware so. The choices are Linux's (drivers/iommu/io-pgtable-arm.c); the rules are DDI0487 D8.
 * Left out: the 32-bit and Mali formats, which no SMMUv3 walks.
 */
import { IommuError } from "@iommukit/core";

/** Linux's names: stage 1 and stage 2. */
export type PageTableFormat = "ARM_64_LPAE_S1" | "ARM_64_LPAE_S2";

/** IO_PGTABLE_QUIRK_* of include/linux/io-pgtable.h. */
export const PageTableQuirk = {
  ARM_NS: 1 << 0,
  ARM_TTBR1: 1 << 5,
  ARM_OUTER_WBWA: 1 << 6,
  ARM_HD: 1 << 7,
  ARM_S2FWB: 1 << 8,
  NO_WARN: 1 << 9,
} as const;

const QUIRKS_OF: Readonly<Record<PageTableFormat, number>> = {
  ARM_64_LPAE_S1:
    PageTableQuirk.ARM_NS |
    PageTableQuirk.ARM_TTBR1 |
    PageTableQuirk.ARM_OUTER_WBWA |
    PageTableQuirk.ARM_HD |
    PageTableQuirk.NO_WARN,
  ARM_64_LPAE_S2: PageTableQuirk.ARM_S2FWB | PageTableQuirk.NO_WARN,
};

/** io_pgtable_cfg: what a driver asks for. */
export interface PageTableConfig {
  readonly format: PageTableFormat;
  /** Page and block sizes that the hardware takes, one bit each. */
  readonly pgsizeBitmap: bigint;
  /** Bits of input and of output address. */
  readonly ias: number;
  readonly oas: number;
  /** PageTableQuirk bits. */
  readonly quirks: number;
  /** Table walks snoop the CPU's caches. */
  readonly coherentWalk: boolean;
}

/** Bytes: 4096, 16384 or 65536. */
export type Granule = 0x1000 | 0x4000 | 0x1_0000;

/** Of either stage. */
export const MAX_LEVELS = 4;
const MAX_CONCATENATED = 16;
const SZ_4K = 0x1000;
const SZ_16K = 0x4000;
const SZ_64K = 0x1_0000;

/** Sizes of one granule's pages and blocks; the 4 TiB block needs 52-bit output addresses (DDI0487 D8.3). */
function sizesOf(granule: number, oas: number): bigint {
  if (granule === SZ_4K) return 0x4020_1000n;
  if (granule === SZ_16K) return 0x200_4000n;
  if (granule === SZ_64K) return 0x2001_0000n | (oas > 48 ? 1n << 42n : 0n);
  return 0n;
}

/** The granule that the CPU uses when the hardware has it, else the next smaller, else the next larger one. */
function chooseGranule(bitmap: bigint): number {
  if (bitmap & BigInt(SZ_4K)) return SZ_4K;
  const smaller = bitmap & 0xfffn;
  if (smaller) return 2 ** (smaller.toString(2).length - 1);
  return bitmap === 0n ? 0 : Number(bitmap & -bitmap);
}

/**
 * Stage 2 has to start one level lower, with concatenated tables, where the architecture leaves no level above for that
 * combination of granule and output size (DDI0487 R_DXBSH, R_SRKBC).
 */
function mustConcatenate(granule: number, startLevel: number, ias: number, oas: number): boolean {
  if (granule === SZ_16K && startLevel === 0) return oas === 48 || ias === 48;
  if (granule === SZ_4K && startLevel === 0) return oas === 40 || oas === 42;
  return granule === SZ_16K && startLevel === 1 && oas === 40;
}

/** Sizes are log2: bits of addresses and of a page. */
export interface PageTableGeometry {
  readonly config: PageTableConfig;
  readonly pgsizeBitmap: bigint;
  readonly ias: number;
  readonly oas: number;
  readonly granule: Granule;
  /** Bits of address that one level resolves: 9, 11 or 13. */
  readonly bitsPerLevel: number;
  readonly startLevel: number;
  /** Bits that the first table resolves; more than bitsPerLevel when tables are concatenated. */
  readonly pgdBits: number;
}

/** @throws IommuError EINVAL when no table of that format can be made for the configuration */
export function pageTableGeometry(config: PageTableConfig): PageTableGeometry {
  const refuse = (why: string): never => {
    throw new IommuError("EINVAL", `${config.format} table with ${config.ias} bits in, ${config.oas} bits out: ${why}`);
  };
  const unknown = config.quirks & ~QUIRKS_OF[config.format];
  if (unknown) refuse(`the format has no quirk 0x${unknown.toString(16)}`);
  if (config.coherentWalk && config.quirks & PageTableQuirk.ARM_OUTER_WBWA)
    refuse("ARM_OUTER_WBWA is for non-coherent walks");
  const granule = chooseGranule(config.pgsizeBitmap);
  const pgsizeBitmap = config.pgsizeBitmap & sizesOf(granule, config.oas);
  if ((pgsizeBitmap & BigInt(SZ_4K | SZ_16K | SZ_64K)) === 0n) {
    refuse(`page sizes 0x${config.pgsizeBitmap.toString(16)} hold no granule`);
  }
  const widest = granule === SZ_64K ? 52 : 48;
  const ias = Math.min(config.ias, widest);
  const oas = Math.min(config.oas, widest);
  if (PHYSICAL_SIZES.indexOf(oas) < 0) refuse("no such output size");
  const pageShift = Math.log2(granule);
  const bitsPerLevel = pageShift - 3;
  const levels = Math.ceil((ias - pageShift) / bitsPerLevel);
  let startLevel = MAX_LEVELS - levels;
  let pgdBits = ias - pageShift - bitsPerLevel * (levels - 1);
  if (config.format === "ARM_64_LPAE_S2" && mustConcatenate(granule, startLevel, ias, oas)) {
    if (2 ** pgdBits > MAX_CONCATENATED) refuse(`${2 ** pgdBits} tables would have to be concatenated`);
    pgdBits += bitsPerLevel;
    startLevel++;
  }
  return { config, pgsizeBitmap, ias, oas, granule: granule as Granule, bitsPerLevel, startLevel, pgdBits };
}

/** Encodings of IPS, PS and IDR5.OAS: index → bits. */
export const PHYSICAL_SIZES: readonly number[] = [32, 36, 40, 42, 44, 48, 52];

/** Stage-1 fields as they go into a CD (`ips`, `tsz`, …: TCR's names). */
export interface StageOneControl {
  readonly ips: number;
  readonly tg: number;
  readonly sh: number;
  readonly orgn: number;
  readonly irgn: number;
  readonly tsz: number;
}

/** Stage-2 fields as they go into an STE (VTCR's names). */
export interface StageTwoControl {
  readonly ps: number;
  readonly tg: number;
  readonly sh: number;
  readonly orgn: number;
  readonly irgn: number;
  readonly sl: number;
  readonly tsz: number;
}

const SHAREABLE = { OUTER: 2, INNER: 3 } as const;
const CACHEABLE = { NONE: 0, WRITE_BACK: 1 } as const;
/** TG0 and TG1 of TCR encode the same granule differently. */
const TG0: Readonly<Record<Granule, number>> = { 4096: 0, 16384: 2, 65536: 1 };
const TG1: Readonly<Record<Granule, number>> = { 4096: 2, 16384: 1, 65536: 3 };

/** What goes into the CD: TCR's fields and MAIR. */
export function stageOneControl({ config, granule, ias, oas }: PageTableGeometry): StageOneControl {
  const { coherentWalk, quirks } = config;
  const outer = (quirks & PageTableQuirk.ARM_OUTER_WBWA) !== 0;
  return {
    ips: PHYSICAL_SIZES.indexOf(oas),
    tg: (quirks & PageTableQuirk.ARM_TTBR1 ? TG1 : TG0)[granule],
    sh: coherentWalk ? SHAREABLE.INNER : SHAREABLE.OUTER,
    orgn: coherentWalk || outer ? CACHEABLE.WRITE_BACK : CACHEABLE.NONE,
    irgn: coherentWalk ? CACHEABLE.WRITE_BACK : CACHEABLE.NONE,
    tsz: 64 - ias,
  };
}

/** What goes into the STE: VTCR's fields. */
export function stageTwoControl({ config, granule, ias, oas, startLevel }: PageTableGeometry): StageTwoControl {
  const { coherentWalk } = config;
  const cacheable = coherentWalk ? CACHEABLE.WRITE_BACK : CACHEABLE.NONE;
  return {
    ps: PHYSICAL_SIZES.indexOf(oas),
    tg: TG0[granule],
    sh: coherentWalk ? SHAREABLE.INNER : SHAREABLE.OUTER,
    orgn: cacheable,
    irgn: cacheable,
    // SL0 counts down from the lowest start level; with 4 KiB granules it is one higher (DDI0487 D8.2).
    sl: ~(startLevel + (granule === SZ_4K ? 1 : 0)) & 3,
    tsz: 64 - ias,
  };
}

/** What AttrIndx 0 … 3 mean: Normal Non-cacheable, Write-Back, Device-nGnRE, inner Non-cacheable with outer Write-Back. */
export const MAIR_INDEX = { NC: 0, CACHE: 1, DEVICE: 2, OUTER_CACHE: 3 } as const;

/** Attr0 … Attr3 of the table above. Linux's value is a sign-extended int: the unused upper four read as 0xff. */
export const MAIR = 0xffff_ffff_f404_ff44n;
