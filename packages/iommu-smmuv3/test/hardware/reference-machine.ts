/** A chip beside the reference: random tables, streams of any configuration, and what both answer. */
import { Access, AtsStatus, Random, TranslationStatus } from "@iommukit/core";
import * as s from "../../src/index.js";
import { HOLE, Machine, RAM } from "./machine.js";
import { forget } from "./reference-invalidation.js";
import { type Answer, Failure, NOTHING, type Read, ReferenceWalk, type Request } from "./reference-walk.js";

const { READ, WRITE, EXEC, PRIV } = Access;
const TABLES = RAM + 0x200_0000;
const PAGE = 0x1_0000;
const PAGES = 24;
const ASKED = 10;
const NONE = { sets: 0, ways: 0 };

const bit = (n: number) => 1n << BigInt(n);
const chance = (random: Random, percent: number) => random.below(100) < percent;
const somePage = (random: Random) => BigInt(TABLES + random.below(PAGES) * PAGE);

/** What may stand anywhere in the tables of any granule and stage: mostly it leads on, or to a page that permits something. */
function descriptor(random: Random): bigint {
  let d = somePage(random);
  if (chance(random, 2)) d = random.pick([BigInt(HOLE), bit(44), bit(33)]);
  d |= chance(random, 93) ? 3n : BigInt(random.below(4));
  for (const [at, percent] of [
    [6, 94],
    [7, 50],
    [10, 94],
    [11, 50],
    [51, 50],
    [53, 30],
    [54, 30],
    [59, 8],
    [60, 8],
    [61, 4],
    [62, 6],
  ])
    if (chance(random, percent)) d |= bit(at);
  // MemAttr, and address bits 51:48 of the 64 KiB granule.
  d |= BigInt(chance(random, 10) ? random.below(4) : 4 + random.below(12)) << 2n;
  return chance(random, 3) ? d | (BigInt(random.below(16)) << 12n) : d;
}

/** T0SZ or T1SZ within the bounds of the granule. */
function size(random: Random, granule: number, oas: number): number {
  const least = granule === 16 && oas === 52 ? 12 : 16;
  return chance(random, 50) ? least : least + random.below((granule === 16 ? 47 : 48) - least + 1);
}

/** S2T0SZ and S2SL0 that fit each other (DDI 0487 D8.2.7). */
function stage2Size(random: Random, granule: number, oas: number): [t0sz: number, sl0: number] {
  for (;;) {
    const t0sz = Math.max(size(random, granule, oas), 64 - oas);
    const sl0 = random.below(granule === 12 ? 4 : 3);
    const start = granule === 12 ? [2, 1, 0, 3][sl0] : 3 - sl0;
    const index = 64 - t0sz - (granule + (3 - start) * (granule - 3));
    if (index >= 1 && index <= granule + 1 && (t0sz <= 32 || chance(random, 10))) return [t0sz, sl0];
  }
}

type SteFields = ReturnType<typeof steFields>;

function steFields(random: Random, oas: number) {
  const S2TG = random.below(3);
  const [S2T0SZ, S2SL0] = stage2Size(random, [12, 16, 14][S2TG], oas);
  const updates = chance(random, 60);
  return {
    Config: random.pick([5, 6, 7, 7]),
    S1ContextPtr: somePage(random) + 0x40n,
    PRIVCFG: random.pick([0, 0, 2, 3]),
    INSTCFG: random.pick([0, 0, 2, 3]),
    S2T0SZ,
    S2SL0,
    S2TG,
    S2PS: chance(random, 80) ? 6 : random.below(8),
    S2TTB: somePage(random),
    S2HA: updates,
    S2HD: updates && chance(random, 60),
    S2AFFD: chance(random, 20),
    S2PTW: chance(random, 20),
    S2FWB: chance(random, 30),
  };
}

function cdFields(random: Random, oas: number, e0pd: boolean) {
  const TG0 = random.below(3);
  const TG1 = 1 + random.below(3);
  const updates = chance(random, 60);
  return {
    T0SZ: size(random, [12, 16, 14][TG0], oas),
    TG0,
    TTB0: somePage(random),
    EPD0: chance(random, 5),
    HAD0: chance(random, 20),
    E0PD0: e0pd && chance(random, 10),
    T1SZ: size(random, [0, 14, 12, 16][TG1], oas),
    TG1,
    TTB1: somePage(random),
    EPD1: chance(random, 30),
    HAD1: chance(random, 20),
    E0PD1: e0pd && chance(random, 10),
    IPS: chance(random, 80) ? 6 : random.below(8),
    TBI: random.below(4),
    AFFD: chance(random, 20),
    WXN: chance(random, 20),
    PAN: chance(random, 30),
    HA: updates,
    HD: updates && chance(random, 60),
  };
}

/** An address in or beside one of the ranges; few different ones, so that caches answer. */
function address(random: Random, { T0SZ, T1SZ }: { T0SZ: number; T1SZ: number }, S2T0SZ: number): bigint {
  const any = (BigInt(random.u32()) << 32n) | BigInt(random.u32());
  const low = any & (bit(64 - random.pick([T0SZ, S2T0SZ])) - 1n);
  if (chance(random, 10)) return any;
  return chance(random, 30) ? BigInt.asUintN(64, ~(any & (bit(64 - T1SZ) - 1n))) : low;
}

/** What the chip did, and what it should have. */
export interface Outcome {
  readonly actual: object;
  readonly expected: object;
}

/** One machine, its tables, and the reference's copy of them. */
export class Comparison {
  readonly random: Random;
  readonly m: Machine;
  readonly words = new BigUint64Array((PAGES * PAGE) / 8);
  readonly oas: number;
  readonly e2h: boolean;
  granted = 0;
  altered = 0;

  /** `alters`: between what is asked, descriptors are changed and the fewest entries invalidated. */
  constructor(
    seed: number,
    private readonly alters = false,
  ) {
    this.random = new Random(seed);
    const preset = s.PRESETS[this.random.pick(["everything", "mmu-700-like"] as const)];
    this.oas = preset.name === "everything" ? 52 : 48;
    this.e2h = chance(this.random, 50);
    const caches = chance(this.random, 25) ? { ...preset.caches, tlb: NONE, walk: NONE } : preset.caches;
    this.m = new Machine({ ...preset, caches }).start({}, { RECINVSID: true, E2H: this.e2h });
    for (let i = 0; i < this.words.length; i++) this.#store(TABLES + i * 8, descriptor(this.random));
  }

  /** Indexes of the words that are not what the reference has. */
  different(): number[] {
    return Array.from(this.words.keys()).filter((i) => this.m.memory.load64(TABLES + i * 8) !== this.words[i]);
  }

  #store(at: number, value: bigint): void {
    this.words[(at - TABLES) / 8] = value;
    this.m.memory.store64(at, Number(value >> 32n) | 0, Number(value & 0xffff_ffffn) | 0);
  }

  /** A stream of any configuration; its CD, index 1 of the table, is written where stage 2 says. */
  *stream(asid: number): Generator<Outcome> {
    const { random, m, oas, words } = this;
    const ste = steFields(random, oas);
    const cd = cdFields(random, oas, oas === 52);
    const el2 = ste.Config === 5 && chance(random, 40);
    const walk = new ReferenceWalk(words, BigInt(TABLES), oas, ste, cd, (at) => m.memory.has(Number(at), 8));
    walk.el2 = el2 && !this.e2h;
    if (ste.Config !== 6 && !this.#writeContext(walk, cd, asid)) return;
    m.ste(0, {
      ...ste,
      S1ContextPtr: ste.S1ContextPtr - 0x40n,
      S1CDMax: 1,
      S1DSS: "ssid0",
      EATS: "full",
      STRW: el2 ? "nsEl2" : "nsEl1",
      S2VMID: asid,
      S2AA64: true,
      S2R: true,
    });
    m.flush();
    m.command([s.CMD_TLBI_EL2_ALL, { Opcode: "TLBI_EL2_ALL" }]);
    const addresses = [0, 1, 2].map(() => address(random, cd, ste.S2T0SZ));
    for (let i = 0; i < ASKED; i++) {
      if (this.alters && i > 2) this.#alter(walk, addresses, { asid, vmid: asid, el2, e2h: this.e2h });
      const outcome = this.#ask(walk, ste, random.pick(addresses) ^ BigInt(random.below(0x1000)));
      if (outcome !== null) yield outcome;
    }
  }

  /** False where the CD cannot be, or would lie in the way to itself. */
  #writeContext(walk: ReferenceWalk, cd: ReturnType<typeof cdFields>, asid: number): boolean {
    const at = caught(() => walk.contextAt());
    this.#share(walk);
    if (at instanceof Failure) return at.ID !== "UNKNOWN";
    if (!walk.has(at)) return false;
    const table = s.CD.encode({ ...cd, V: true, AA64: true, R: true, A: true, ASID: asid });
    for (let i = 0; i < table.length; i += 2)
      this.#store(Number(at) + i * 4, (BigInt(table[i + 1] >>> 0) << 32n) | BigInt(table[i] >>> 0));
    const again = caught(() => walk.contextAt());
    this.#share(walk);
    return again === at;
  }

  /** Changes a descriptor that has one role in the ways of all addresses, and has the chip forget it. */
  #alter(walk: ReferenceWalk, addresses: readonly bigint[], ids: Parameters<typeof forget>[3]): void {
    const { random, m } = this;
    const ways: Read[][] = [];
    for (const va of addresses) {
      const answer = caught(() =>
        walk.translate(va, { need: NOTHING, want: { r: true, w: false, x: false }, privileged: true }),
      );
      this.#share(walk);
      if (answer instanceof Failure && answer.ID === "UNKNOWN") return;
      ways.push(walk.reads.slice(walk.contextReads));
    }
    const all = ways.flat();
    if (all.length === 0) return;
    const read = random.pick(all);
    const uses = all.filter(({ at }) => at === read.at);
    const block = BigInt(read.granule + (3 - read.level) * (read.granule - 3));
    const one = ({ stage, level, granule, input }: Read) =>
      stage === read.stage &&
      level === read.level &&
      granule === read.granule &&
      input >> block === read.input >> block;
    if (!uses.every(one) || this.#isOfContext(walk, read.at)) return;
    const old = this.words[(Number(read.at) - TABLES) / 8];
    this.#store(Number(read.at), descriptor(random));
    const alone = uses.every(({ input }) => input >> 12n === read.input >> 12n);
    m.command(...forget(random, read, old, ids, alone));
    this.altered++;
  }

  /** Finding the CD reads it, or it lies in the CD: then the CD's cache would have to go as well. */
  #isOfContext(walk: ReferenceWalk, at: bigint): boolean {
    if (walk.ste.Config === 6) return false;
    walk.reads.length = 0;
    const cd = caught(() => walk.contextAt());
    this.#share(walk);
    return walk.reads.some((read) => read.at === at) || (typeof cd === "bigint" && at >> 6n === cd >> 6n);
  }

  /** Flags that the reference alone has set are set for the chip too. */
  #share(walk: ReferenceWalk): void {
    for (const i of walk.updated) this.#store(TABLES + i * 8, this.words[i]);
  }

  /** Null where the way leads into memory that the reference does not know. */
  #ask(walk: ReferenceWalk, ste: SteFields, va: bigint): Outcome | null {
    const { random } = this;
    const access = random.pick([READ, WRITE, READ | WRITE, EXEC]) | (chance(random, 50) ? PRIV : 0);
    // Only a PASID carries execution and privilege, and stage 2 alone has none.
    const asked = ste.Config === 6 ? access & ~(EXEC | PRIV) || READ : access;
    const write = (asked & WRITE) !== 0;
    const privileged = ste.PRIVCFG === 0 ? (asked & PRIV) !== 0 : ste.PRIVCFG === 3;
    const ats = chance(random, 40);
    const InD = !write && (ste.INSTCFG === 0 ? (asked & EXEC) !== 0 : ste.INSTCFG === 3);
    const need = { r: !InD && (!write || (asked & READ) !== 0), w: write, x: InD };
    const want = { r: ste.INSTCFG !== 3, w: write, x: ste.INSTCFG === 3 };
    const request = ats ? { need: NOTHING, want, privileged } : { need, want: need, privileged };
    const answer = caught(() => walk.translate(va, request));
    if (answer instanceof Failure && answer.ID === "UNKNOWN") {
      this.#share(walk);
      return null;
    }
    const pasid = ste.Config === 6 ? -1 : 1;
    if (ats) return this.#translationRequest(answer, ste, va, asked, pasid);
    return this.#transaction(answer, request, { PnU: privileged, InD, RnW: !write, InputAddr: va }, asked, pasid);
  }

  #translationRequest(answer: Answer | Failure, ste: SteFields, va: bigint, asked: number, pasid: number): Outcome {
    const { m } = this;
    const status = m.ats(va, asked | READ, 0, pasid);
    const { read, write, execute } = m.completion;
    return {
      actual: { status, read, write, execute, pa: m.completionPa, events: m.events() },
      expected: { ...completion(answer, asked, ste.INSTCFG), events: [] },
    };
  }

  #transaction(
    answer: Answer | Failure,
    { need }: Request,
    attributes: { PnU: boolean; InD: boolean; RnW: boolean; InputAddr: bigint },
    asked: number,
    pasid: number,
  ): Outcome {
    const { m } = this;
    const status = m.translate(attributes.InputAddr, asked, 0, pasid);
    const actual = { status, events: m.events(), pa: m.pa, perms: m.out.perms };
    if (answer instanceof Failure) {
      const readDenied = need.r && need.w && answer.ID === "F_PERMISSION" && answer.Class === "IN" && answer.writable;
      const event = { ...attributes, RnW: readDenied || attributes.RnW, ...record(answer) };
      return { actual, expected: { status: TranslationStatus.FAULT, events: [event] } };
    }
    this.granted++;
    const { r, w, x } = answer.rights;
    // An entry that is cached as clean does not know of a write by another way to the same descriptor.
    const knows = need.w || (m.out.perms & WRITE) !== 0;
    const perms = (r ? READ : 0) | (w && knows ? WRITE : 0) | (x ? EXEC : 0);
    return { actual, expected: { status: TranslationStatus.OK, events: [], pa: Number(answer.pa), perms } };
  }
}

function caught<T>(body: () => T): T | Failure {
  try {
    return body();
  } catch (failure) {
    if (failure instanceof Failure) return failure;
    throw failure;
  }
}

/** 7.3.12 to 7.3.16. */
function record({ ID, stage, Class, at, update }: Failure): Record<string, unknown> {
  const S2 = stage === 2;
  if (ID === "F_WALK_EABT") return { ID, S2, Class, FetchAddr: Number(at) };
  const IPA = S2 ? Number(at - (at % 0x1000n)) : 0;
  return { ID, S2, Class, IPA, ...(S2 && Class === "TT" && ID === "F_PERMISSION" ? { TTRnW: !update } : {}) };
}

/** 3.9.1.2, 13.7.1. */
function completion(answer: Answer | Failure, asked: number, instcfg: number) {
  const none = { read: false, write: false, execute: false };
  if (answer instanceof Failure)
    return { status: answer.ID === "F_WALK_EABT" ? AtsStatus.CA : AtsStatus.SUCCESS, ...none };
  const { r, w, x } = answer.rights;
  const read = instcfg === 3 ? x : r;
  const write = w && (asked & WRITE) !== 0;
  const execute = (asked & EXEC) !== 0 && (instcfg === 3 ? x : r && (x || instcfg === 2));
  return { status: AtsStatus.SUCCESS, read, write, execute, pa: read || write ? Number(answer.pa & ~0xfffn) : 0 };
}
