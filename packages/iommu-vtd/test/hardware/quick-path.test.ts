import { Access, NO_PASID, TranslationStatus } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { everything } from "../../src/presets.js";
import { PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { Bench, DIRECTORY, PASIDS, RAM, RID } from "./bench.js";

const DATA = BigInt(RAM + 0x80_0000);
const PAGES = [0x1000n, 0x2000n, 0x20_0000n, 0x7fff_ffff_f000n];
const PASID = 5;
const RUNS = 200;
const { READ, WRITE } = Access;

/** Flips of single bits somewhere in a table, mostly where they matter: what software may get wrong. */
const flips = fc.array(
  fc.record({
    table: fc.constantFrom("context", "directory", "entry", "level4", "level3", "level2", "level1"),
    bit: fc.oneof(fc.nat(11), fc.nat(63)),
    word: fc.oneof(fc.constant(0), fc.nat(7)),
    after: fc.nat(6),
  }),
  { maxLength: 2 },
);
const enables = fc.record({
  SRE: fc.boolean(),
  ERE: fc.boolean(),
  WPE: fc.boolean(),
  NXE: fc.boolean(),
  SMEP: fc.boolean(),
  EAFE: fc.boolean(),
  PGSNP: fc.boolean(),
  FPD: fc.boolean(),
});
/** P, R/W, U/S, A, D, as most operating systems leave them; then others. */
const leaf = fc
  .oneof(fc.constant(0x67n), fc.constant(0x65n), fc.bigInt(0n, 0xfffn))
  .chain((low) => fc.boolean().map((xd) => low | (xd ? 1n << 63n : 0n)));
const requests = fc.array(
  fc.record({
    page: fc.constantFrom(...PAGES, 0x9000n),
    access: fc.oneof(fc.constantFrom(READ, READ, WRITE), fc.nat(15)),
    pasid: fc.constantFrom(PASID, PASID, PASID, PASID, PASID + 1, NO_PASID),
    rid: fc.constantFrom(RID, RID, RID, RID, RID, RID + 1),
  }),
  { minLength: 1, maxLength: 12 },
);
const setups = fc.record({
  cached: fc.boolean(),
  enables,
  PGTT: fc.constantFrom("firstStage", "firstStage", "firstStage", "passThrough", "nested"),
  leaves: fc.array(leaf, { minLength: PAGES.length, maxLength: PAGES.length }),
  flips: fc.oneof(fc.constant([]), flips),
  requests,
});
type Setup = typeof setups extends fc.Arbitrary<infer T> ? T : never;

/** Everything that can be seen of a unit: answers, fault records, and the tables with their accessed and dirty bits. */
function seen(setup: Setup, listened: "nothing" | "ends" | "everything"): { answers: unknown[]; ends: unknown[] } {
  const none = { ...everything.caches, context: 0, pasid: 0, iotlb: 0, pagingStructure: 0 };
  const bench = new Bench(setup.cached ? everything : { ...everything, caches: none });
  const root = bench.table();
  const leaves = PAGES.map((page, i) => bench.map(root, 4, page, (DATA + BigInt(i) * 4096n) | setup.leaves[i], 0x27n));
  bench.scalable({
    [PASID]: { PGTT: setup.PGTT, FSPTPTR: root, SSPTPTR: root, AW: 2, ...setup.enables },
  });
  const tables: Record<string, number> = {
    context: bench.contextAddress(true),
    directory: DIRECTORY,
    entry: PASIDS + PASID * PASID_ENTRY.bytes,
    level4: root,
    level1: leaves[0],
  };
  tables.level3 = Number(bench.load(root) & 0xf_ffff_ffff_f000n);
  tables.level2 = Number(bench.load(tables.level3) & 0xf_ffff_ffff_f000n);
  const flip = ({ table, bit, word }: Setup["flips"][number]) => {
    const at = tables[table] + (table === "entry" ? word : table === "context" ? word % 4 : 0) * 8;
    bench.store(at, bench.load(at) ^ (1n << BigInt(bit)));
  };
  const answers: unknown[] = [];
  const ask = () => {
    for (const [i, { page, access, pasid, rid }] of setup.requests.entries()) {
      const status = bench.translate(page + 0x123n, access, pasid, rid);
      answers.push(status === TranslationStatus.OK ? [bench.pa, bench.out.shift, bench.out.perms] : status);
      answers.push(bench.takeReason());
      // Software changes a table between two requests: caches stay as they are, and units without any see it.
      for (const change of setup.flips) if (change.after === i) flip(change);
    }
  };
  // With a listener to everything nothing takes the quick path.
  const ends: unknown[] = [];
  if (listened !== "nothing")
    bench.trace.on("translate:completed", ({ address, status, pa }) => ends.push([address, status, pa]));
  if (listened === "everything") bench.traced(ask);
  else ask();
  const marks = [...leaves.map((at) => bench.load(at)), bench.load(root), bench.load(tables.level3)];
  return { answers: [...answers, ...marks], ends };
}

describe("the quick path", () => {
  it("answers, records and marks what the whole way does, for whatever is in the tables", { timeout: 60_000 }, () => {
    let served = 0;
    fc.assert(
      fc.property(setups, (setup) => {
        const quick = seen(setup, "nothing").answers;
        const whole = seen(setup, "everything");
        expect(quick).toEqual(whole.answers);
        expect(seen(setup, "ends")).toEqual(whole);
        served += quick.filter(Array.isArray).length;
      }),
      { numRuns: RUNS, seed: 20180511 },
    );
    // Most answers are faults, as the tables were broken on purpose; without good ones nothing quick was compared.
    expect(served).toBeGreaterThan(RUNS / 2);
  });
});
