/** What people read: two columns, then how it stood at the failure. */
import { addr, bit, type CachedEntry, createPlatform, layout, Mutex, type Platform, uint } from "@iommukit/core";
import { FakePciFunction, fakeIommu } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { type Case, Laboratory, parseSchedule, renderTimeline, type Scenario } from "../src/index.js";

const BDF = "0000:01:00.0";
const ENTRY = layout(
  { name: "Entry", bits: 128, spec: "none", summary: "Of a unit that nobody builds." },
  { V: bit(0, "valid"), Mode: uint(11, 1, "mode"), Table: addr(63, 12, "table"), Tag: uint(127, 64, "tag") },
);
const CACHED: readonly CachedEntry[] = [{ cache: "TLB", tag: "PASID 1, 4 KiB at 0x5000", says: "→ 0x100008000" }];

/** A machine whose driver writes entries, and whose IOMMU holds one translation. */
function scenario(prepare: (platform: Platform, at: number) => Case): Scenario {
  return {
    name: "by hand",
    summary: "what the test says",
    async boot(options) {
      const devices = [{ name: "device", segment: 0, create: () => [new FakePciFunction(BDF)] }];
      const platform = await createPlatform({ ...options, iommus: [fakeIommu], devices });
      const [iommu] = platform.iommus;
      Object.assign(iommu, { entries: [{ layout: ENTRY, cachedBy: () => ["TLB"], rule: "its manual" }] });
      Object.assign(iommu.chip, { cacheContents: () => CACHED });
      return { platform };
    },
    prepare: async ({ platform }) => prepare(platform, platform.memory.regions[0].base + 0x8000),
  };
}

function store({ memory, trace }: Platform, address: number, value: number): void {
  memory.store64(address, 0, value);
  trace.emit("table:written", { by: "fake", table: ENTRY.name, address, value: BigInt(value) });
}

async function text(of: Scenario, schedule: string): Promise<string> {
  return renderTimeline((await new Laboratory(of).show(parseSchedule(schedule))).timeline);
}

describe("a timeline", () => {
  it("shows who did what in which order, and locks, table words and caches when nothing could go on", async () => {
    const deadlock = scenario((platform, at) => {
      const { scheduler, trace } = platform;
      const [a, b] = ["a", "b"].map((name) => new Mutex(scheduler, trace, name));
      const both = (first: Mutex, second: Mutex) => first.with(() => second.with(() => {}));
      return {
        actors: {
          left: async () => {
            store(platform, at + 8, 0x1234);
            store(platform, at, 0x3003);
            await both(a, b);
          },
          right: async () => {
            trace.emit("tlb:filled", {
              unit: "fake",
              cache: "TLB",
              rid: 0x100,
              pasid: 1,
              address: 0x5000n,
              pa: 0x1_0000_8000,
              size: 4096,
            });
            await both(b, a);
          },
        },
      };
    });
    expect(await text(deadlock, "2:1")).toBe(`\
software                                                   │ hardware and devices
───────────────────────────────────────────────────────────┼───────────────────────────────────────────────────────────
── left                                                    │
   Entry 0x100008000 +0x08 := 0x1234, +0x00 := 0x3003 (V=1 │
     Mode=1 Table=0x3000)                                  │
   takes a                                                 │
── right  ← choice 2:1                                     │
                                                           │    fake TLB takes 0x5000 PASID 1 → 0x100008000
   takes b                                                 │
   waits for a                                             │
── left                                                    │
   waits for b                                             │
✗ I-5: left takes b under a; b → a was taken in that order before (right: a under b) (two locks are always taken in the
  same order)

when I-5 was broken

threads that wait
  right waits for lock a (held by left)

locks
  a  held by left, wanted by right
  b  held by right, wanted by left

table words
  Entry 0x100008000 of fake
    +0x00  0x0000000000003003  V=1 Mode=1 Table=0x3000
    +0x08  0x0000000000001234  Tag=0x1234

page table words written: none

caches
  fake TLB: PASID 1, 4 KiB at 0x5000  → 0x100008000`);
  });

  it("tells what a choice was that is no switch, and that nothing is held when the actors have ended", async () => {
    const choosing = scenario(({ scheduler, trace }) => ({
      actors: {
        one: async () => {
          if (scheduler.choose?.(2, "no memory for a bond") === 1) trace.emit("log:printed", { line: "no memory" });
        },
      },
      check: () => ["wrong"],
    }));
    const told = await text(choosing, "0:1");
    expect(told).toContain("  ! no memory for a bond  ← choice 0:1");
    expect(told).toContain('   prints "no memory"');
    expect(told).toContain("when the actors had ended\n\nthreads that wait: none\n\nlocks: none\n\ntable words: none");
  });

  it("leaves the middle of a run without an end out, and stays within 120 columns", async () => {
    const endless = scenario(({ trace, scheduler }) => ({
      actors: {
        one: async () => {
          for (;;) {
            trace.emit("log:printed", { line: "x".repeat(200) });
            await scheduler.sleep(10);
          }
        },
      },
    }));
    const rows = (await text(endless, "")).split("\n");
    expect(rows.length).toBeLessThan(400);
    expect(rows.filter((row) => /^… \d+ rows are left out …$/.test(row))).toHaveLength(1);
    expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(120);
    expect(rows).toContain("when no end was in sight");
  });
});
