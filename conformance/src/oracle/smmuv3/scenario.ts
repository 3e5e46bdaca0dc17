/**
 * One random case: structures and tables (valid, illegal, mutated), invalidation, transfers, then perhaps a change with or
 * without invalidation and the transfers again. What QEMU cannot do or dies of is not generated; see quirks.ts.
 */
import { Random } from "@iommukit/core";
import {
  CD,
  CMD_CFGI_STE,
  CMD_CFGI_STE_RANGE,
  CMD_SYNC,
  CMD_TLBI_NH_ALL,
  CMD_TLBI_NH_VA,
  CMD_TLBI_NH_VAA,
  CMD_TLBI_NSNH_ALL,
  CMD_TLBI_S2_IPA,
  CMD_TLBI_S12_VMALL,
  L1STD,
  STE,
} from "@iommukit/iommu-smmuv3";
import * as at from "./layout.js";
import type { Configuration } from "./outcome.js";
import type { Pair } from "./pair.js";
import { type Geometry, Tables, type Values } from "./tables.js";

export type Mode = "s1" | "s2" | "nested" | "2lvl";
export const MODES: readonly Mode[] = ["s1", "s2", "nested", "2lvl"];

const CFGI_ALL = CMD_CFGI_STE_RANGE.encode({ Opcode: "CFGI_STE_RANGE", Range: 31 });
const TLBI_ALL = CMD_TLBI_NSNH_ALL.encode({ Opcode: "TLBI_NSNH_ALL" });
const SYNC = CMD_SYNC.encode({ Opcode: "SYNC" });
/**
 * Unknown opcodes and a Secure StreamID. QEMU accepts what it should refuse besides: CS = 3 of CMD_SYNC, a range with nothing but
 * TG, and every command of a feature that it lacks (EL2, EL3, ATS, PRI, stalls).
 */
const ILLEGAL = [
  ...[0x00, 0x08, 0x14, 0x2c, 0x42, 0x60, 0x80, 0xff].map((opcode) => Int32Array.of(opcode, 0, 0, 0)),
  CMD_CFGI_STE.encode({ Opcode: "CFGI_STE", SSec: true }),
];
const OAS = [32, 36, 40, 42, 44, 48, 52];
const TG0 = new Map([
  [12, 0],
  [16, 1],
  [14, 2],
]);
const TG1 = new Map([
  [14, 1],
  [12, 2],
  [16, 3],
]);
/** Levels by granule, blocks where there are any. */
const LEVELS = new Map([
  [12, [1, 2, 3, 3, 3]],
  [14, [2, 3, 3]],
  [16, [2, 3, 3]],
]);

export class Scenario {
  readonly #random: Random;
  readonly #stage1: Tables;
  readonly #stage2: Tables;
  readonly #targets: bigint[] = [];
  #config: "s1" | "s2" | "nested";
  #ste: Record<string, number | bigint | boolean | string> = {};
  #cd: Record<string, number | bigint | boolean | string> = {};
  /** Added to a physical address gives its IPA. */
  #ipaOffset = 0n;
  #second: Geometry | null = null;

  constructor(
    private readonly mode: Mode,
    seed: number,
  ) {
    this.#random = new Random(seed);
    this.#config = mode === "2lvl" ? this.#random.pick(["s1", "s2", "nested"]) : mode;
    const nested = this.#config === "nested";
    this.#stage1 = new Tables(1, at.STAGE1_TABLES, at.TABLE_SPACING, (pa) =>
      nested ? BigInt(pa) + this.#ipaOffset : BigInt(pa),
    );
    this.#stage2 = new Tables(2, at.STAGE2_TABLES, at.TABLE_SPACING, BigInt);
  }

  #chance(percent: number): boolean {
    return this.#random.below(100) < percent;
  }

  play(pair: Pair): void {
    this.#build();
    if (this.#chance(2)) this.#disabled(pair);
    if (this.#chance(3)) pair.refusedCommand(this.#random.pick(ILLEGAL));
    if (this.#chance(35)) this.#mutate();
    this.#stage1.store(pair);
    this.#stage2.store(pair);
    this.#storeStructures(pair);
    pair.configured(this.#configuration, true);
    pair.commands(CFGI_ALL, TLBI_ALL, SYNC);
    this.#transfer(pair);
    if (this.#chance(25)) this.#again(pair);
    this.#stage1.clear(pair);
    this.#stage2.clear(pair);
  }

  /** Global bypass, or abort (GBPA). */
  #disabled(pair: Pair): void {
    pair.configured(this.#configuration, true);
    pair.withoutTranslation(this.#chance(50), BigInt(at.DATA.base + this.#random.below(64) * 4));
  }

  /** A change while things are cached: seen only after the right invalidation, by both. */
  #again(pair: Pair): void {
    if (this.#chance(40)) {
      // QEMU keeps the TTBs' physical addresses with the CD (a quirk): stage 2 of nested streams stays.
      this.#mutateDescriptor(this.#config === "nested" ? this.#stage1 : undefined);
      this.#stage1.store(pair);
      this.#stage2.store(pair);
      pair.commands(...this.#byScope());
      this.#transfer(pair, this.#targets);
      return;
    }
    this.#mutate();
    this.#stage1.store(pair);
    this.#stage2.store(pair);
    this.#storeStructures(pair);
    const invalidations = this.#random.pick([[], [], [CFGI_ALL, TLBI_ALL], [CFGI_ALL, TLBI_ALL, SYNC]]);
    pair.configured(this.#configuration, invalidations.length > 0);
    if (invalidations.length > 0) pair.commands(...invalidations);
    this.#transfer(pair);
  }

  /** Commands that reach what the targets may have cached, and as little else as their scope allows. */
  #byScope(): Int32Array[] {
    const VMID = STE.S2VMID.get(STE.encode(this.#ste));
    const ASID = this.#config === "s2" ? 0 : CD.ASID.get(CD.encode(this.#cd));
    const Leaf = this.#chance(50);
    const pages = this.#targets.map((target) => target & ~0xfffn);
    const stage2 = [
      [CMD_TLBI_S12_VMALL.encode({ Opcode: "TLBI_S12_VMALL", VMID })],
      pages.map((Address) => CMD_TLBI_S2_IPA.encode({ Opcode: "TLBI_S2_IPA", VMID, Address, Leaf })),
    ];
    const stage1 = [
      [CMD_TLBI_NH_ALL.encode({ Opcode: "TLBI_NH_ALL", VMID })],
      [CMD_TLBI_NH_ALL.encode({ Opcode: "TLBI_NH_ALL", VMID })],
      pages.map((Address) => CMD_TLBI_NH_VAA.encode({ Opcode: "TLBI_NH_VAA", VMID, Address, Leaf })),
      pages.map((Address) => CMD_TLBI_NH_VA.encode({ Opcode: "TLBI_NH_VA", VMID, ASID, Address, Leaf })),
    ];
    if (this.#config === "s1") return this.#random.pick(stage1);
    return this.#config === "s2" ? this.#random.pick(stage2) : stage2[0];
  }

  get #configuration(): Configuration {
    return { ste: STE.encode(this.#ste), cd: CD.encode(this.#cd), level1: this.mode === "2lvl" ? this.#level1 : null };
  }

  #storeStructures(pair: Pair): void {
    const ste = STE.encode(this.#ste);
    if (this.mode !== "2lvl") {
      pair.store(at.STREAM_TABLE + at.EDU_SID * 64, ste);
    } else {
      pair.store(at.LEVEL2_TABLE + at.EDU_SID * 64, ste);
      pair.store(at.STREAM_TABLE, this.#level1);
    }
    if (this.#config !== "s2") pair.store(at.CONTEXTS, CD.encode(this.#cd));
  }

  #level1: Int32Array = new Int32Array(2);

  #transfer(pair: Pair, addresses?: readonly bigint[]): void {
    const count = 1 + this.#random.below(3);
    for (let i = 0; i < count; i++)
      pair.dma(addresses ? this.#random.pick(addresses) : this.#address(), this.#chance(75));
  }

  /** Mostly something that is mapped. */
  #address(): bigint {
    const target = this.#random.pick(this.#targets);
    const aligned = target + BigInt(this.#random.below(1024) * 4);
    const kind = this.#random.below(20);
    if (kind === 0) return BigInt.asUintN(64, aligned ^ (1n << BigInt(this.#random.below(52) + 12)));
    if (kind === 1) return (aligned & 0x00ff_ffff_ffff_ffffn) | (BigInt(this.#random.below(256)) << 56n);
    if (kind === 2) return BigInt.asUintN(64, aligned + 0x1000n);
    return aligned;
  }

  #build(): void {
    const span = this.#chance(85) ? 6 + this.#random.below(2) : this.#random.below(32);
    this.#level1 = L1STD.encode({ Span: span, L2Ptr: at.LEVEL2_TABLE });
    this.#ste = {
      V: true,
      Config: this.#config,
      S1ContextPtr: at.CONTEXTS,
      S2AA64: true,
      S2VMID: this.#random.below(4),
    };
    if (this.#config !== "s1") this.#buildStage2();
    if (this.#config !== "s2") this.#buildStage1();
    if (this.#config === "nested") {
      this.#ste.S1ContextPtr = BigInt(at.CONTEXTS) + this.#ipaOffset;
      this.#mapIpa(at.CONTEXTS);
      // The first page of each table, and those that descriptors are in.
      const pages = new Set(
        [...this.#stage1.descriptors.keys()].flatMap((pa) => [pa - (pa % at.TABLE_SPACING), pa - (pa % 0x1000)]),
      );
      for (const page of pages) this.#mapIpa(page);
    }
  }

  #buildStage2(): void {
    const granule = this.#random.pick([12, 12, 14, 16]);
    const levels = granule === 12 ? [0, 1, 2] : granule === 14 ? [1, 2, 3] : [1, 2, 3];
    const startLevel = this.#random.pick(levels);
    const stride = granule - 3;
    const shift = granule + (3 - startLevel) * stride;
    // 30 bits hold the whole RAM, one half of them below its physical address. QEMU gets concatenated start tables wrong (a quirk), so they are rare.
    const concatenated = this.#chance(5) ? 4 : 0;
    const bits = Math.min(44, Math.max(30, shift + 1 + this.#random.below(stride + concatenated)));
    const index = bits - shift;
    const consistent = index >= 1 && index <= stride + 4;
    const root = this.#stage2.allocate();
    // Up to 16 concatenated tables follow each other.
    for (let i = 0; i < 16; i++) this.#stage2.allocate();
    this.#ipaOffset = bits > 36 && this.#chance(60) ? BigInt(this.#random.below(8)) << 32n : -0x2000_0000n;
    Object.assign(this.#ste, {
      S2T0SZ: 64 - bits,
      S2SL0: granule === 12 ? 2 - startLevel : 3 - startLevel,
      S2TG: TG0.get(granule) ?? 0,
      S2PS: this.#chance(70) ? 4 : this.#random.below(6),
      S2TTB: root,
      S2R: this.#chance(this.#config === "nested" ? 97 : 90),
      S2AFFD: this.#chance(20),
    });
    this.#second = { root, granule, bits, startLevel };
    if (!consistent) this.#second = null;
    if (this.#config !== "s2") return;
    for (let i = 0; i < 3; i++) {
      const page = at.DATA.base + this.#random.below(16) * at.TABLE_SPACING;
      this.#targets.push(this.#mapIpa(page));
    }
  }

  /** Maps a page of RAM at its IPA, as a page or as a block around it. */
  #mapIpa(page: number): bigint {
    const ipa = BigInt(page) + this.#ipaOffset;
    const geometry = this.#second;
    if (geometry === null) return ipa;
    const { granule } = geometry;
    const level = Math.max(geometry.startLevel, this.#chance(85) ? 3 : this.#random.pick(LEVELS.get(granule) ?? [3]));
    const shift = BigInt(granule + (3 - level) * (granule - 3));
    const allowed = level === 3 || level === 2 || (granule === 12 && level === 1);
    const output = ((BigInt(page) >> shift) << shift) & 0xffff_ffff_f000n;
    // IPA and output must agree in the offset inside of the block.
    if (!allowed || ((ipa ^ BigInt(page)) & ((1n << shift) - 1n)) !== 0n) return ipa;
    const leaf = {
      AF: this.#chance(96),
      S2AP: this.#pickS2ap(),
      MemAttr: 15,
      SH: 3,
      XN: this.#random.below(4),
      Contiguous: this.#chance(10),
      DBM: this.#chance(20),
    };
    this.#stage2.map(geometry, ipa, level, output, leaf, () => ({}));
    return ipa;
  }

  #pickS2ap(): number {
    return this.#chance(85) ? 3 : this.#random.below(4);
  }

  #buildStage1(): void {
    const both = this.#chance(40);
    const only1 = !both && this.#chance(25);
    this.#cd = {
      V: true,
      AA64: true,
      A: true,
      R: this.#chance(90),
      EPD0: only1,
      EPD1: !both && !only1,
      IPS: this.#chance(70) ? 4 : this.#random.below(6),
      TBI: this.#chance(20) ? this.#random.below(4) : 0,
      ASID: this.#random.below(4),
      AFFD: this.#chance(20),
      WXN: this.#chance(20),
      HAD0: this.#chance(20),
      HAD1: this.#chance(20),
      MAIR0: 0xff,
    };
    if (!only1) this.#buildRange(0);
    if (both || only1) this.#buildRange(1);
  }

  #buildRange(range: 0 | 1): void {
    const granule = this.#random.pick([12, 12, 14, 16]);
    const tsz = this.#chance(60) ? this.#random.pick([16, 25, 32]) : 16 + this.#random.below(24);
    const bits = 64 - tsz;
    const startLevel = 4 - Math.ceil((bits - granule) / (granule - 3));
    const root = this.#stage1.allocate();
    this.#cd[`T${range}SZ`] = tsz;
    this.#cd[`TG${range}`] = (range === 0 ? TG0 : TG1).get(granule) ?? 0;
    this.#cd[`TTB${range}`] = this.#config === "nested" ? BigInt(root) + this.#ipaOffset : root;
    const geometry = { root, granule, bits, startLevel };
    const count = 1 + this.#random.below(3);
    for (let i = 0; i < count; i++) this.#mapVa(geometry, range);
  }

  #mapVa(geometry: Geometry, range: 0 | 1): void {
    const { granule, bits } = geometry;
    const level = Math.max(geometry.startLevel, this.#random.pick(LEVELS.get(granule) ?? [3]));
    if (level < (granule === 12 ? 1 : 2)) return;
    const shift = BigInt(granule + (3 - level) * (granule - 3));
    const page = at.DATA.base + this.#random.below(16) * at.TABLE_SPACING;
    const ipa = BigInt(page) + (this.#config === "nested" ? this.#ipaOffset : 0n);
    if (this.#config === "nested") this.#mapIpa(page);
    const output = ((ipa >> shift) << shift) & 0xffff_ffff_f000n;
    const random = (BigInt(this.#random.u32()) << 32n) | BigInt(this.#random.u32());
    const low = BigInt.asUintN(bits, (random >> shift) << shift);
    const va = range === 0 ? low : BigInt.asUintN(64, low | (-1n << BigInt(bits)));
    const leaf: Values = {
      AttrIndx: this.#random.below(8),
      AP: this.#chance(80) ? this.#random.below(2) : this.#random.below(4),
      SH: this.#random.pick([0, 2, 3]),
      AF: this.#chance(95),
      nG: this.#chance(60),
      NS: this.#chance(20),
      DBM: this.#chance(20),
      Contiguous: this.#chance(10),
      PXN: this.#chance(30),
      UXN: this.#chance(30),
      IGNORED: this.#random.below(16),
    };
    this.#stage1.map(geometry, va, level, output, leaf, () => this.#branch());
    this.#targets.push(va | (ipa & ((1n << shift) - 1n)));
  }

  #branch(): Values {
    if (!this.#chance(20)) return {};
    return {
      APTable: this.#random.below(4),
      PXNTable: this.#chance(30),
      UXNTable: this.#chance(30),
      NSTable: this.#chance(30),
    };
  }

  #mutate(): void {
    const kind = this.#random.below(10);
    if (kind < 2) this.#mutateSte();
    else if (kind < 4 && this.#config !== "s2") this.#mutateCd();
    else this.#mutateDescriptor();
  }

  #mutateSte(): void {
    const s2 = this.#config !== "s1";
    const edits: Values[] = [
      { V: false },
      { Config: this.#random.pick([0, 1, 2, 3, 4]) },
      { S1STALLD: true },
      { STRW: this.#random.below(4) },
      { MEV: true },
      { PPAR: true, CONT: this.#random.below(16), DRE: true, DCP: true },
      { S1Fmt: this.#random.below(4), S1DSS: this.#random.below(4) },
      { S1ContextPtr: at.HOLE },
      { S1ContextPtr: 2n ** 45n },
    ];
    if (s2) {
      edits.push(
        { S2T0SZ: this.#random.below(64) },
        { S2SL0: this.#random.below(4) },
        { S2TG: this.#random.below(4) },
        { S2PS: this.#random.below(6) },
        { S2TTB: at.HOLE },
        { S2TTB: 2n ** 45n },
        { S2S: true },
        { S2HA: true },
        { S2HD: true },
        { S2ENDI: true },
        { S2R: false },
        { S2PTW: true },
        { S2VMID: 0xffff },
      );
    }
    Object.assign(this.#ste, this.#random.pick(edits));
  }

  #mutateCd(): void {
    const edits: Values[] = [
      { V: false },
      { AA64: false },
      { A: false },
      { S: true },
      { R: false },
      { HA: true },
      { HD: true },
      { ENDI: true },
      { T0SZ: this.#random.below(64) },
      { T1SZ: this.#random.below(64) },
      { TG0: this.#random.below(4) },
      { TG1: this.#random.below(4) },
      { IPS: this.#random.below(6) },
      { EPD0: true },
      { EPD1: true },
      { EPD0: true, EPD1: true },
      { TTB0: at.HOLE },
      { TTB0: 2n ** 45n },
      { TTB1: 2n ** BigInt(OAS[this.#random.below(4)]) },
      { TBI: this.#random.below(4) },
      { ASID: 0xffff },
      { PAN: false, ASET: true, UWXN: true },
    ];
    Object.assign(this.#cd, this.#random.pick(edits));
  }

  #mutateDescriptor(only?: Tables): void {
    const both = this.#random.pick([this.#stage1, this.#stage2]);
    const tables = only ?? (this.#config === "s1" ? this.#stage1 : this.#config === "s2" ? this.#stage2 : both);
    const list = this.#chance(50) || tables.branches.length === 0 ? tables.leaves : tables.branches;
    if (list.length === 0) return;
    const address = this.#random.pick(list);
    const edits: ((value: bigint) => bigint)[] = [
      (value) => value & ~1n,
      (value) => value & ~3n,
      (value) => (value & ~3n) | 2n,
      (value) => value ^ (1n << 10n),
      (value) => value ^ (1n << BigInt(6 + this.#random.below(2))),
      (value) => value | (1n << 44n),
      (value) => value | (1n << BigInt(this.#random.pick([32, 33, 34, 35, 36, 37, 40, 41, 42, 43, 45, 46, 47]))),
      (value) => (value & ~0xffff_ffff_f000n) | BigInt(at.HOLE),
      (value) => value ^ (1n << BigInt(51 + this.#random.below(13))),
      (value) => value ^ (1n << BigInt(2 + this.#random.below(10))),
    ];
    // A table that becomes a block might be where there are none (a quirk); a block that becomes a table would make one of data.
    if (list === tables.leaves && !tables.blocks.has(address)) edits.push((value) => value ^ 2n);
    tables.change(address, this.#random.pick(edits));
  }
}
