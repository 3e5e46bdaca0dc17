import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Prot } from "../../src/index.js";
import { FILE_PAGES, type Op, Program, WINDOW } from "./program.js";
import { World } from "./world.js";

const page = fc.oneof(
  fc.integer({ min: 0, max: 15 }),
  fc.integer({ min: 505, max: 520 }),
  fc.integer({ min: 1018, max: 1030 }),
);
const count = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 10 }) },
  { weight: 1, arbitrary: fc.constantFrom(512, 520) },
);
const prot = fc.constantFrom<Prot>("rw", "rw", "rw", "r", "rx", "none", "rwx");
const value = fc.integer({ min: 1, max: 255 });
const format = fc.constantFrom(0, 1);
const which = fc.nat(7);
const clipped = fc.record({ page, count }).map((at) => ({ ...at, count: Math.min(at.count, WINDOW - at.page) }));

const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(clipped, prot, fc.constantFrom("anon", "anon", "shared", "file", "sharedFile"), fc.nat(FILE_PAGES - 1))
      .map(([at, p, kind, index]): Op => ({ op: "mmap", ...at, prot: p, kind: kind as "anon", index })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(clipped, fc.constantFrom("munmap", "dontneed", "age"))
      .map(([at, name]): Op => ({ op: name as "munmap", ...at })),
  },
  { weight: 2, arbitrary: fc.tuple(clipped, prot).map(([at, p]): Op => ({ op: "mprotect", ...at, prot: p })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(clipped, fc.integer({ min: 1, max: 12 }), page)
      .map(([at, size, to]): Op => ({ op: "mremap", ...at, size, to })),
  },
  {
    weight: 10,
    arbitrary: fc
      .tuple(fc.constantFrom("cpuWrite", "deviceWrite"), page, value, format)
      .map(([name, p, v, f]): Op => ({ op: name as "cpuWrite", page: p, value: v, format: f })),
  },
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.constantFrom("cpuRead", "deviceRead"), page, format)
      .map(([name, p, f]): Op => ({ op: name as "cpuRead", page: p, format: f })),
  },
  { weight: 1, arbitrary: clipped.map((at): Op => ({ op: "hugepage", ...at })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom("collapse", "split"), page)
      .map(([name, p]): Op => ({ op: name as "split", page: p })),
  },
  { weight: 1, arbitrary: fc.tuple(page, page).map(([p, other]): Op => ({ op: "merge", page: p, other })) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom("fork", "exit", "tables"), which)
      .map(([name, w]): Op => ({ op: name as "fork", which: w })),
  },
  { weight: 2, arbitrary: fc.tuple(page, fc.boolean()).map(([p, write]): Op => ({ op: "pin", page: p, write })) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom("unpin", "dma"), which, value)
      .map(([name, w, v]): Op => ({ op: name as "dma", which: w, value: v })),
  },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: FILE_PAGES }).map((size): Op => ({ op: "truncate", size })) },
);

/** A block is mapped from the start in half of the programs, so that huge pages meet everything else. */
const start: Op[] = [
  { op: "mmap", page: 0, count: 1024, prot: "rw", kind: "anon", index: 0 },
  { op: "hugepage", page: 0, count: 1024 },
  { op: "deviceWrite", page: 3, value: 9, format: 0 },
];

describe("AddressSpace, random programs", () => {
  it.each([
    ["small pages", { hugePages: "never" }],
    ["huge pages", { hugePages: "madvise" }],
    ["no zero page", { zeroPage: false }],
  ] as const)(
    "agrees with a plain map of pages (%s)",
    async (_name, options) => {
      const program = fc.array(fc.tuple(which, op), { minLength: 20, maxLength: 60 });
      await fc.assert(
        fc.asyncProperty(fc.boolean(), program, async (huge, steps) => {
          const world = new World(options);
          await world.run(async () => {
            const machine = new Program(world);
            if (huge) for (const step of start) await machine.run(0, step);
            for (const [who, step] of steps) await machine.run(who, step);
            await machine.finish();
          });
          expect(world.pages.usage().size).toBe(0);
        }),
        { numRuns: 25, seed: 7 },
      );
    },
    120_000,
  );
});
