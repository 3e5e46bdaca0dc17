/**
 * Random tables, walked by explain and by the chip: every granule, both stages, nested. What the chip translates explain must
 * map to the same address; where the chip records an event explain must stop with the same one.
 */
import { Access, bareBoard, SlabMemory, Translation, TranslationStatus } from "@iommukit/core";
import {
  CD,
  CR0,
  EVENTQ_BASE,
  EVENTQ_CONS,
  EVENTQ_PROD,
  EVENTS,
  PRESETS,
  Smmuv3Hardware,
  STE,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
} from "@iommukit/iommu-smmuv3";
import { expect, it } from "vitest";
import { smmuEvent } from "../../src/explain/kinds/smmu-event-record.js";
import { walkFor } from "../../src/explain/walk/walk.js";
import { randomOf } from "./random.js";

const RAM = 0x4000_0000;
const STREAMS = RAM;
const CDS = RAM + 0x1_0000;
const EVENTQ = RAM + 0x2_0000;
/** Start tables, up to 16 concatenated ones of 64 KiB each. */
const S1_START = RAM + 0x10_0000;
const S2_START = RAM + 0x20_0000;
/** Tables of both stages, of 64 KiB, which every granule can have. */
const POOL = RAM + 0x40_0000;
const FRAMES = 24;
const NONE = { sets: 0, ways: 0 };
const GRANULES = { 12: "granule4K", 14: "granule16K", 16: "granule64K" } as const;
type Granule = keyof typeof GRANULES;

const { below, pick, chance, bits } = randomOf(5);

function board() {
  const memory = new SlabMemory([{ base: RAM, size: 0x100_0000 }]);
  const caches = { ...PRESETS.everything.caches, ste: NONE, cd: NONE, l1: NONE, tlb: NONE, walk: NONE };
  return {
    memory,
    chip: new Smmuv3Hardware(bareBoard(memory), { name: "smmuv3", preset: { ...PRESETS.everything, caches } }),
  };
}

type Board = ReturnType<typeof board>;
type Table = { encode(values: object): Int32Array };

function put({ memory }: Board, address: number, table: Table, values: object): void {
  for (const [n, word] of table.encode(values).entries()) memory.store32(address + 4 * n, word);
}

function set({ chip }: Board, register: Table & { offset: number; bits: number }, values: object): void {
  const words = register.encode(values);
  if (register.bits === 32) chip.write32(register.offset, words[0] >>> 0);
  else chip.write64(register.offset, (BigInt(words[1] >>> 0) << 32n) | BigInt(words[0] >>> 0));
}

/** Attributes at random, and an address: of a frame of the pool, or in the input range of the next stage. */
function descriptor(inputs: bigint | undefined): bigint {
  const type = chance(85) ? 3n : chance(60) ? 1n : BigInt(below(4));
  const address =
    inputs === undefined || chance(3) ? BigInt(POOL + below(FRAMES) * 0x1_0000) : inputs & 0xffff_ffff_0000n;
  const rights = chance(70) ? 0x40n | (BigInt(below(2)) << 7n) : BigInt(below(4)) << 6n;
  const upper = chance(75) ? 0n : bits(5) << 51n;
  const hierarchy = chance(90) ? 0n : bits(4) << 59n;
  return address | type | rights | (chance(92) ? 1n << 10n : 0n) | upper | hierarchy;
}

function fill({ memory }: Board, address: number, size: number, inputs: () => bigint | undefined): void {
  for (let at = 0; at < size; at += 8) {
    const value = descriptor(inputs());
    memory.store64(address + at, Number(value >> 32n) | 0, Number(value & 0xffff_ffffn) | 0);
  }
}

/** Of 64 - T0SZ bits, with a start level that needs at most 16 concatenated tables. */
function stage2Geometry(): { granule: Granule; bits: number; sl0: number } {
  for (;;) {
    const granule = pick([12, 14, 16] as const);
    const width = 32 + below(17);
    const level = below(4);
    const shift = granule + (granule - 3) * (3 - level);
    const concatenated = width - shift - (granule - 3);
    const sl0 = granule === 12 ? 2 - level : 3 - level;
    if (width > shift && concatenated <= 4 && level < 3 && sl0 >= 0 && sl0 < 3) return { granule, bits: width, sl0 };
  }
}

/** An intermediate address that stage 2 lets be read, and where it leads: a CD can stand there. */
function throughStage2({ chip }: Board, width: number): readonly [ipa: number, pa: number] {
  const out = new Translation();
  for (let tries = 0; tries < 1000; tries++) {
    const ipa = Number(bits(width) & ~63n);
    const status = chip.translate(0, -1, Math.floor(ipa / 2 ** 32), ipa | 0, Access.READ | Access.PRIV, out);
    const pa = (out.hi >>> 0) * 2 ** 32 + (out.lo >>> 0);
    if (status === TranslationStatus.OK && pa >= POOL && pa < POOL + FRAMES * 0x1_0000) return [ipa, pa];
  }
  return [0, CDS];
}

function configure(unit: Board) {
  const config = pick(["s1", "s2", "nested", "nested"] as const);
  const second = stage2Geometry();
  const granule = pick([12, 14, 16] as const);
  const width = 25 + below(24);
  const inputs = () => (config === "nested" ? bits(second.bits) : undefined);
  for (let frame = 0; frame < FRAMES; frame++) fill(unit, POOL + frame * 0x1_0000, 0x4000, inputs);
  fill(unit, S1_START, 0x1_0000, inputs);
  fill(unit, S2_START, 0x4_0000, () => undefined);
  const flag = (percent: number) => chance(percent);
  const ste = {
    V: true,
    ...(config === "s1" ? {} : { S2T0SZ: 64 - second.bits, S2SL0: second.sl0, S2TG: GRANULES[second.granule] }),
    S2PS: 5,
    S2AA64: true,
    S2R: true,
    S2AFFD: flag(20),
    S2TTB: S2_START,
  };
  put(unit, STREAMS, STE, { ...ste, Config: "s2" });
  const [pointer, place] = config === "nested" ? throughStage2(unit, second.bits) : [CDS, CDS];
  put(unit, STREAMS, STE, { ...ste, Config: config, S1ContextPtr: pointer });
  put(unit, place, CD, {
    V: true,
    AA64: true,
    T0SZ: 64 - width,
    TG0: GRANULES[granule],
    TTB0: config === "nested" ? Number(bits(second.bits) & 0xffff_fff0_0000n) : S1_START,
    EPD1: true,
    IPS: 5,
    R: true,
    A: true,
    ASID: 1,
    AFFD: flag(20),
    HAD0: flag(30),
    WXN: flag(20),
    PAN: flag(20),
    TBI: below(2),
  });
  return { width: config === "s2" ? second.bits : width };
}

it("SMMUv3: explain's walk ends as the chip's does", { timeout: 120_000 }, () => {
  const wrong: object[] = [];
  const ends = new Map<string, number>();
  for (let machine = 0; machine < 40; machine++) {
    const unit = board();
    const { memory, chip } = unit;
    set(unit, STRTAB_BASE, { ADDR: STREAMS });
    set(unit, STRTAB_BASE_CFG, { LOG2SIZE: 4 });
    set(unit, EVENTQ_BASE, { ADDR: EVENTQ, LOG2SIZE: 8 });
    set(unit, CR0, { SMMUEN: true, EVENTQEN: true });
    const { width } = configure(unit);
    chip.write32(EVENTQ_CONS.offset, chip.read32(EVENTQ_PROD.offset));
    const out = new Translation();
    const images = {
      read64: (at: bigint) =>
        at >= BigInt(RAM) && at < BigInt(RAM) + 0x100_0000n ? memory.load64(Number(at)) : undefined,
    };
    for (let request = 0; request < 200; request++) {
      const address = bits(chance(96) ? width : 64);
      const [access, code] = pick([
        ["read", Access.READ],
        ["write", Access.WRITE],
        ["execute", Access.READ | Access.EXEC],
      ] as const);
      const privileged = chance(40);
      const halves = [Number(BigInt.asIntN(32, address >> 32n)), Number(BigInt.asIntN(32, address))] as const;
      const status = chip.translate(0, -1, ...halves, code | (privileged ? Access.PRIV : 0), out);
      const roots = { memory: images, rtaddr: undefined, strtab: { base: BigInt(STREAMS), config: 4 } };
      const prod = chip.read32(EVENTQ_PROD.offset);
      let wanted = "mapped";
      let facts: object = { iommu: "smmuv3", sid: 0, address, access, privileged };
      if (status !== TranslationStatus.OK) {
        const quads = [0, 8, 16, 24].map((n) => memory.load64(EVENTQ + ((prod - 1) & 0xff) * 32 + n));
        const event = smmuEvent({ line: 1, raw: [], quads });
        chip.write32(EVENTQ_CONS.offset, prod);
        wanted = `${EVENTS.get(Number(quads[0] & 0xffn))?.name}${event?.facts.stage === 2 ? ", S2 = 1" : ""}`;
        facts = { ...event?.facts };
      }
      const walk = walkFor({ kind: "", line: 1, summary: "", raw: [], parts: [], notes: [], facts }, roots);
      ends.set(wanted, (ends.get(wanted) ?? 0) + 1);
      const output = `-> 0x${((BigInt(out.hi >>> 0) << 32n) | BigInt(out.lo >>> 0)).toString(16)},`;
      const text =
        wanted === "mapped" ? output : /_EABT|FETCH/.test(wanted) ? "is in no --memory image" : `(${wanted})`;
      if (!walk?.verdict.includes(text)) wrong.push({ access, privileged, wanted: text, ...walk });
    }
  }
  expect(wrong.slice(0, 1)).toEqual([]);
  const expected = [
    "mapped",
    "F_TRANSLATION",
    "F_PERMISSION",
    "F_ACCESS",
    "F_TRANSLATION, S2 = 1",
    "F_PERMISSION, S2 = 1",
  ];
  expect(expected.filter((end) => (ends.get(end) ?? 0) <= 20)).toEqual([]);
});
