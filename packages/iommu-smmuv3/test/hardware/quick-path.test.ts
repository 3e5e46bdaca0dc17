import { Access, Random, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { CD_TABLE, DATA, type Fields, HOLE, type Machine, machine, S1_ROOT, variant } from "./machine.js";

const { READ, WRITE } = Access;
const VA = 0x4000_0000n;

/** Every answer about a handful of pages, each asked twice: past the TLB and out of it. */
function answers(listened: boolean): unknown[] {
  const m = machine();
  m.stage1(0);
  const leaves: Record<string, string | boolean>[] = [
    {},
    { AP: "readOnly" },
    { AP: "readOnly", DBM: true },
    { AF: false },
    { nG: false },
    { AP: "el1ReadWrite" },
  ];
  for (const [i, leaf] of leaves.entries()) {
    m.map(VA + BigInt(i) * 4096n, DATA + i * 4096, leaf);
  }
  const all: unknown[] = [];
  const ask = () => {
    for (let page = 0n; page <= BigInt(leaves.length); page++) {
      for (const access of [READ, READ, WRITE, READ | WRITE]) {
        const status = m.translate(VA + page * 4096n + 0x123n, access);
        all.push(status === TranslationStatus.OK ? [m.pa, m.out.shift, m.out.perms] : status);
      }
    }
  };
  // With a listener nothing takes the quick path.
  if (listened) m.traced(ask);
  else ask();
  return [...all, m.events()];
}

const SIDS = 3;
const SSIDS = 4;
const PAGES = 6;
const NONE = { sets: 0, ways: 0 };

/** A preset with or without each cache, and with tables of either byte order. */
function preset(random: Random): s.Smmuv3Preset {
  const everything = variant("everything", { idr0: { TTENDIAN: "mixed" } });
  const some = () => random.pick([NONE, { sets: 1, ways: 2 }, everything.caches.tlb]);
  const config = random.below(3) === 0 ? { ste: NONE, cd: NONE } : { ste: some(), cd: some() };
  const caches = { ...everything.caches, ...config, l1: some(), tlb: some(), walk: some() };
  return { ...everything, caches: { ...caches, cachesInvalid: random.below(2) === 0 } };
}

/** Mostly what a driver writes, now and then a field of any value: illegal entries too. */
function odd(random: Random, values: Fields, fields: readonly (readonly [string, number])[]): Fields {
  if (random.below(3) !== 0) return values;
  const [name, bits] = random.pick(fields);
  return { ...values, [name]: random.below(2 ** bits) };
}

function writeStream(m: Machine, random: Random, sid: number): void {
  const twoLevel = random.below(3) === 0;
  const values = {
    Config: "s1",
    S1ContextPtr: twoLevel ? CD_TABLE + 0x8000 : CD_TABLE,
    S1CDMax: twoLevel ? 7 : 2,
    S1Fmt: twoLevel ? "twoLevel4K" : "linear",
    S1DSS: random.below(3),
    EATS: random.below(2),
    S2VMID: random.below(3),
  };
  m.put(s.L1CD, CD_TABLE + 0x8000, { V: true, L2Ptr: CD_TABLE });
  const fields = [
    ["V", 1],
    ["Config", 3],
    ["S1CDMax", 5],
    ["S1Fmt", 2],
    ["S1STALLD", 1],
    ["EATS", 2],
    ["STRW", 2],
    ["PRIVCFG", 2],
    ["INSTCFG", 2],
  ] as const;
  m.ste(sid, odd(random, values, fields));
}

function writeContext(m: Machine, random: Random, ssid: number): void {
  const values = { ASID: random.below(3), ASET: random.below(2), T0SZ: random.pick([16, 16, 16, 20, 25]) };
  const fields = [
    ["V", 1],
    ["T0SZ", 6],
    ["TG0", 2],
    ["EPD0", 1],
    ["EPD1", 1],
    ["ENDI", 1],
    ["IPS", 3],
    ["AFFD", 1],
    ["WXN", 1],
    ["TBI", 2],
    ["PAN", 1],
    ["AA64", 1],
    ["HD", 1],
    ["HA", 1],
    ["S", 1],
    ["R", 1],
    ["A", 1],
    ["HAD0", 1],
    ["E0PD0", 1],
  ] as const;
  m.cd(odd(random, values, fields), ssid);
}

/** Maps pages with any flags and gives the tables above them any hierarchical attributes. */
function writePages(m: Machine, random: Random): void {
  const leaf = () =>
    odd(random, { AP: "readWrite", AF: true, nG: true }, [
      ["AP", 2],
      ["AF", 1],
      ["nG", 1],
      ["DBM", 1],
      ["PXN", 1],
      ["UXN", 1],
      ["Contiguous", 1],
      ["Type", 2],
    ]);
  for (let page = 0; page < PAGES; page++) {
    m.map(VA + BigInt(page) * 4096n, random.below(9) === 0 ? HOLE : DATA + page * 4096, leaf());
  }
  m.map(VA + 0x20_0000n, DATA, leaf(), { level: 2 });
  for (let page = 0; page < PAGES; page++) {
    m.map(VA + 0x40_0000n + BigInt(page) * 4096n, DATA + page * 8192, leaf());
    m.map(VA + 0x60_0000n + BigInt(page) * 4096n, DATA + page * 12288, leaf());
  }
  const hierarchy = random.below(4) === 0 ? random.below(16) : 0;
  for (const descriptor of [S1_ROOT, below(m, S1_ROOT, 0) + 8]) {
    if (random.below(2) === 0) continue;
    m.memory.store32(descriptor + 4, (m.memory.load32(descriptor + 4) & 0x07ff_ffff) | (hierarchy << 27));
  }
}

/** The table that an entry of a table leads to. */
function below(m: Machine, table: number, index: number): number {
  return Number(m.memory.load64(table + index * 8) & 0xffff_ffff_f000n);
}

/** Exchanges two tables of pages: who remembers them from before still finds the old ones. */
function swapTables(m: Machine): void {
  const table = below(m, below(m, S1_ROOT, 0), 1);
  const words = [0, 1, 2, 3].map((word) => m.memory.load32(table + 16 + word * 4));
  for (let word = 0; word < 4; word++) m.memory.store32(table + 16 + word * 4, words[word ^ 2]);
}

/** The same changes and accesses for the same seed; what came of them. With a listener nothing takes the quick path. */
function story(seed: number, listened: boolean): unknown[] {
  const random = new Random(seed);
  const m = machine(preset(random));
  for (let sid = 0; sid < SIDS; sid++) writeStream(m, random, sid);
  for (let ssid = 0; ssid < SSIDS; ssid++) writeContext(m, random, ssid);
  writePages(m, random);
  const all: unknown[] = [];
  const step = () => {
    const change = random.below(60);
    if (change === 0) writeStream(m, random, random.below(SIDS));
    else if (change === 1) writeContext(m, random, random.below(SSIDS));
    else if (change === 2) writePages(m, random);
    else if (change === 3) m.flush();
    else if (change === 4)
      m.command([s.CMD_TLBI_NH_ASID, { Opcode: "TLBI_NH_ASID", ASID: random.below(3), VMID: random.below(3) }]);
    else if (change === 5) {
      m.set(s.CR0, {});
      m.set(s.STRTAB_BASE_CFG, { LOG2SIZE: random.pick([1, 8]) });
      m.set(s.CR0, { SMMUEN: true, EVENTQEN: true, CMDQEN: true, PRIQEN: true });
    } else if (change === 6) swapTables(m);
    const page = BigInt(random.below(PAGES + 1)) * 4096n;
    const va = (random.below(12) === 0 ? random.pick([0n, 1n << 39n, 1n << 48n, 0xffn << 56n, -1n << 47n]) : 0n) + VA;
    const address = BigInt.asUintN(64, va + BigInt(random.pick([0, 0, 0, 1, 2, 3])) * 0x20_0000n + page + 0x123n);
    const access = random.below(10) === 0 ? random.below(16) : random.pick([READ, WRITE, READ | WRITE]);
    const status = m.translate(address, access, random.below(SIDS), random.below(SSIDS + 1) - 1);
    all.push(status === TranslationStatus.OK ? [m.pa, m.out.shift, m.out.perms] : status, m.events());
  };
  const steps = () => {
    for (let i = 0; i < 300; i++) step();
  };
  if (listened) m.traced(steps);
  else steps();
  return all;
}

describe("the quick path", () => {
  it("answers, and records, what the whole way does in any configuration", { timeout: 30_000 }, () => {
    let translated = 0;
    for (let seed = 0; seed < 40; seed++) {
      const quick = story(seed, false);
      translated += quick.filter((each) => Array.isArray(each) && typeof each[0] === "number").length;
      expect(quick, `seed ${seed}`).toEqual(story(seed, true));
    }
    // Not only faults have been compared.
    expect(translated).toBeGreaterThan(2000);
  });

  it("answers, and records, what the whole way does", () => {
    expect(answers(false)).toEqual(answers(true));
  });

  it("finds a start table that is smaller than a page within its page", () => {
    const { everything } = s.PRESETS;
    const m = machine({ ...everything, caches: { ...everything.caches, walk: NONE } });
    // 44 bits: 32 descriptors at level 0, aligned to their 256 bytes.
    const root = S1_ROOT + 0x900;
    m.stage1(0, {}, { T0SZ: 20, TTB0: root });
    m.map(VA, DATA, {}, { root, bits: 44 });
    // Another's, in the same page.
    m.map(VA, DATA + 0x1000, {}, { root: S1_ROOT, bits: 44 });
    for (let i = 0; i < 2; i++) {
      expect(m.translate(VA + 0x123n, READ)).toBe(TranslationStatus.OK);
      expect(m.pa).toBe(DATA + 0x123);
      m.command([s.CMD_TLBI_NSNH_ALL, { Opcode: "TLBI_NSNH_ALL" }]);
    }
    expect(m.events()).toEqual([]);
  });
});
