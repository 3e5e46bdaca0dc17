/** Exchanging independent steps makes no new run, and nothing that can happen is left out for it. */
import { ChipSocket, createPlatform, type HardwareUnit, type IommuPlugin, Mutex, Tracer } from "@iommukit/core";
import { fakeIommu } from "@iommukit/core/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Chooser,
  ExhaustiveSearch,
  ExploringScheduler,
  explore,
  History,
  parseSchedule,
  ReplayChooser,
  type Scenario,
  type Shard,
  VersionedMemory,
  watchTrace,
} from "../src/index.js";

const RAM = 0x1_0000_0000;

/** A step of a program; `word` is a word of memory, `lock` a mutex. */
type Op =
  | { readonly kind: "load" | "store"; readonly word: number }
  | { readonly kind: "lock" | "unlock"; readonly lock: number }
  | { readonly kind: "point" }
  | { readonly kind: "sleep" }
  | { readonly kind: "clock" };

interface Program {
  /** By thread. */
  readonly threads: readonly (readonly Op[])[];
  /** Units of hardware: a load or a store a step. */
  readonly units: readonly (readonly Op[])[];
}

interface Outcome {
  /** What is in memory at the end, and what each has read last. */
  readonly end: string;
  readonly whole: number;
  readonly counts: readonly number[];
  readonly taken: readonly number[];
  readonly states: readonly number[];
}

/** Runs a program once. What an actor stores depends on who it is and on what it has read. */
async function run({ threads, units }: Program, chooser: Chooser): Promise<Outcome> {
  const scheduler = new ExploringScheduler();
  const memory = new VersionedMemory([{ base: RAM, size: 4096 }], (count, what) => scheduler.choose(count, what));
  const trace = new Tracer(() => scheduler.now);
  for (const name of ["lock:acquired", "lock:released", "lock:contended"] as const) trace.on(name, () => {});
  const history = new History(memory);
  watchTrace(history, trace);
  scheduler.history = history;
  memory.history = history;
  const locks = [0, 1].map((n) => new Mutex(scheduler, trace, `lock ${"ab"[n]}`));
  const read: number[] = [];
  const access = (who: number, { kind, word }: { readonly kind: string; readonly word: number }) => {
    if (kind === "load") read[who] = (Math.imul(read[who], 31) + memory.load32(RAM + 8 * word)) >>> 0;
    else memory.store32(RAM + 8 * word, (Math.imul(read[who], 7) + who + 1) >>> 0);
  };
  await scheduler.run(async () => {
    scheduler.explore(chooser);
    for (const [who, ops] of threads.entries()) {
      read[who] = 0;
      scheduler.spawn(`thread ${"xyz"[who]}`, async () => {
        const held = new Set<number>();
        for (const op of ops) {
          if (op.kind === "lock" && !held.has(op.lock)) {
            // One at a time: nobody waits for the other's.
            for (const lock of held) locks[lock].unlock();
            held.clear();
            await locks[op.lock].lock();
            held.add(op.lock);
          } else if (op.kind === "unlock" && held.delete(op.lock)) locks[op.lock].unlock();
          else if (op.kind === "sleep") await scheduler.sleep(100);
          else if (op.kind === "clock") read[who] = (Math.imul(read[who], 31) + scheduler.now) >>> 0;
          else if (op.kind === "point") await scheduler.point("point");
          else if ("word" in op) access(who, op);
        }
        for (const lock of held) locks[lock].unlock();
      });
    }
    for (const [n, ops] of units.entries()) {
      const who = threads.length + n;
      read[who] = 0;
      let at = 0;
      const unit: HardwareUnit = {
        name: `unit ${"xyz"[n]}`,
        step: () => {
          const op = ops[at++];
          if (op && "word" in op) access(who, op);
          return at < ops.length;
        },
      };
      scheduler.kick(unit);
    }
    await scheduler.idle();
    scheduler.rest();
  });
  const words = Array.from({ length: 4 }, (_, word) => memory.load32(RAM + 8 * word));
  return { end: JSON.stringify([words, read]), whole: history.whole, ...scheduler.decisions };
}

/** Runs every schedule of a search. @returns what could be seen at the end, and how many runs that took */
async function all(program: Program, bound: number, prunes: boolean, shard?: Shard) {
  const search = new ExhaustiveSearch(bound, shard, prunes);
  const ends = new Map<number, string>();
  let runs = 0;
  for (let chooser = search.next(); chooser; chooser = search.next()) {
    const outcome = await run(program, chooser);
    // The same history has the same end.
    expect(ends.get(outcome.whole) ?? outcome.end).toBe(outcome.end);
    ends.set(outcome.whole, outcome.end);
    runs++;
    search.done({ findings: [], steps: 0, ...outcome });
  }
  return { ends: [...new Set(ends.values())].sort(), runs };
}

/** Every interleaving in which nobody is taken away. @returns how many histories there are, and how many runs have them */
async function histories(program: Program) {
  const wholes = new Map<number, string>();
  let runs = 0;
  const visit = async (schedule: string, from: number): Promise<void> => {
    const { counts, whole, end } = await run(program, new ReplayChooser(parseSchedule(schedule)));
    runs++;
    // The same history has the same end.
    expect(wholes.get(whole) ?? end).toBe(end);
    wholes.set(whole, end);
    for (let at = from; at < counts.length; at++)
      for (let option = 1; option < counts[at] - 1; option++)
        await visit([schedule, `${at}:${option}`].filter((part) => part !== "").join(","), at + 1);
  };
  await visit("", 0);
  return { histories: wholes.size, runs };
}

const load = (word: number): Op => ({ kind: "load", word });
const store = (word: number): Op => ({ kind: "store", word });
const POINT: Op = { kind: "point" };

describe("a history", () => {
  it.each([
    ["three stores to three words", { threads: [], units: [[store(0)], [store(1)], [store(2)]] }, 1],
    ["three stores to one word", { threads: [], units: [[store(0)], [store(0)], [store(0)]] }, 6],
    // The store comes before, between or after the loads; and whoever touches a word first names it.
    ["two loads and a store", { threads: [], units: [[load(0)], [load(0)], [store(0)]] }, 4 + 1],
    ["two loads after a store, and a store", { threads: [], units: [[store(0), load(0)], [load(0)]] }, 2],
    // Each store comes before, between or after the other's load and store: 6 orders of four accesses to one word.
    [
      "two that load and store",
      {
        threads: [],
        units: [
          [load(0), store(0)],
          [load(0), store(0)],
        ],
      },
      6,
    ],
    // Only the orders of the two stores to the shared word differ.
    [
      "two with words of their own and one shared",
      {
        threads: [],
        units: [
          [store(1), store(0), store(1)],
          [store(2), store(0), store(2)],
        ],
      },
      2,
    ],
    [
      "two threads with points",
      {
        threads: [
          [POINT, store(0), POINT],
          [POINT, store(1), POINT],
        ],
        units: [],
      },
      1,
    ],
    [
      "two threads under one lock",
      {
        threads: [0, 1].map(() => [{ kind: "lock", lock: 0 } as const, store(0), { kind: "unlock", lock: 0 } as const]),
        units: [],
      },
      2,
    ],
  ] satisfies [string, Program, number][])("of %s", async (_what, program, expected) => {
    const { histories: found, runs } = await histories(program);
    expect(found).toBe(expected);
    expect(runs).toBeGreaterThanOrEqual(expected);
  });
});

const word = fc.nat(1);
const accessOp = fc.record({ kind: fc.constantFrom("load" as const, "store" as const), word });
const threadOp: fc.Arbitrary<Op> = fc.oneof(
  { weight: 4, arbitrary: accessOp },
  { weight: 2, arbitrary: fc.constant(POINT) },
  { weight: 1, arbitrary: fc.constantFrom<Op>({ kind: "sleep" }, { kind: "clock" }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("lock" as const, "unlock" as const), lock: fc.nat(1) }) },
);
const program = fc.record({
  threads: fc.array(fc.array(threadOp, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 2 }),
  units: fc.array(fc.array(accessOp, { minLength: 1, maxLength: 3 }), { maxLength: 2 }),
});

describe("pruning", () => {
  it("leaves out no end of a program", { timeout: 120_000 }, async () => {
    let pruned = 0;
    let whole = 0;
    await fc.assert(
      fc.asyncProperty(program, fc.integer({ min: 1, max: 3 }), async (tried, bound) => {
        const everything = await all(tried, bound, false);
        const less = await all(tried, bound, true);
        expect(less.ends).toEqual(everything.ends);
        expect(less.runs).toBeLessThanOrEqual(everything.runs);
        // Nor do shards that prune each for itself.
        const shards = [
          await all(tried, bound, true, { index: 1, of: 2 }),
          await all(tried, bound, true, { index: 2, of: 2 }),
        ];
        expect([...new Set(shards.flatMap(({ ends }) => ends))].sort()).toEqual(everything.ends);
        pruned += less.runs;
        whole += everything.runs;
      }),
      { seed: 8, numRuns: 250 },
    );
    expect(pruned).toBeLessThan(0.85 * whole);
  });
});

describe("a campaign that prunes", () => {
  const inSocket: IommuPlugin = {
    ...fakeIommu,
    create(container, name) {
      const fake = fakeIommu.create(container, name);
      const chip = container.resolve(ChipSocket).chip(fake.chip);
      return { name, chip, ops: fake.ops, start: () => fake.start(), stop: () => fake.stop() };
    },
  };
  const scenario = (iommu: IommuPlugin): Scenario => ({
    name: "read",
    summary: "two threads read a register, and each a word of its own",
    boot: async (options) => ({ platform: await createPlatform({ ...options, iommus: [iommu] }) }),
    prepare: async ({ platform }) => {
      const { scheduler, memory, iommus } = platform;
      const read = (word: number) => async () => {
        for (const at of [word, word + 64]) {
          memory.load32(RAM + at);
          await scheduler.point("read");
        }
        iommus[0].chip.read32(0);
      };
      return { actors: { one: read(0), two: read(8) } };
    },
  });
  const schedules = async (prunes: boolean) =>
    (await explore(scenario(inSocket), new ExhaustiveSearch(3, undefined, prunes))).schedules;

  it("sees what goes to the chips of its machine", async () => {
    expect(await schedules(true)).toBeLessThan(await schedules(false));
  });

  it("refuses a machine whose chips it does not see", async () => {
    await expect(explore(scenario(fakeIommu), new ExhaustiveSearch(2, undefined, true))).rejects.toThrow(
      "states cannot be told apart: the chip of fake is not plugged into the ChipSocket",
    );
  });
});
