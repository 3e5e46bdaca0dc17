import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { alignHi, alignLo, meets } from "../../src/hardware/address-bits.js";
import { TagCache } from "../../src/hardware/tag-cache.js";
import { everything } from "../../src/presets.js";
import { IOTLB_INVALIDATE, PASID_IOTLB_INVALIDATE } from "../../src/spec/invalidation.js";
import { Bench, RAM, withCap } from "./bench.js";

const { OK, FAULT } = TranslationStatus;
const PAGE = BigInt(RAM + 0x80_0000);

describe("TagCache", () => {
  it("finds what was claimed, replaces round robin in a set, and counts", () => {
    const cache = new TagCache(4);
    const slots = [1, 2, 3, 4].map((tag) => cache.claim(tag, 0, 0, 0));
    expect([new Set(slots).size, cache.size]).toEqual([4, 4]);
    expect(cache.claim(2, 0, 0, 0)).toBe(slots[1]);
    expect(cache.claim(5, 0, 0, 0)).toBe(slots[0]);
    expect([cache.find(1, 0, 0, 0) < 0, cache.find(5, 0, 0, 0)]).toEqual([true, slots[0]]);
    cache.drop(slots[0]);
    cache.drop(slots[0]);
    expect([cache.size, cache.clear(), cache.size]).toEqual([3, 3, 0]);
  });

  it("tells whether aligned ranges meet", () => {
    expect([meets(0, 0x1000, 0, 0x1fff, 12), meets(0, 0x1000, 0, 0x2000, 12), meets(0, 0x1000, 0, 0x2000, 14)]).toEqual(
      [true, false, true],
    );
    expect([meets(1, 0, 1, -1, 32), meets(1, 0, 2, 0, 32), meets(1, 0, 2, 0, 34), meets(1, 0, -1, 0, 64)]).toEqual([
      true,
      false,
      true,
      true,
    ]);
    expect([
      alignLo(0x1234_5678, 21),
      alignLo(5, 40),
      alignHi(0x1234, 21),
      alignHi(0x1234, 40),
      alignHi(0x1234, 64),
    ]).toEqual([0x1220_0000, 0, 0x1234, 0x1200, 0]);
  });
});

/**
 * What stays after an invalidation: entries of first stage (PASID 5, domain 1), second stage (6, domain 2), nested (7, domain
 * 2), for pages 0x1000 and 0x3000. Leaves are unmapped before; a hit is a stale entry.
 */
function stale(): Bench {
  const bench = new Bench(everything);
  const [fs, ss, guest] = [bench.table(), bench.table(), bench.table()];
  bench.map(ss, 4, BigInt(guest), BigInt(guest) | 3n, 3n);
  bench.scalable({
    5: { PGTT: "firstStage", FSPTPTR: fs, DID: 1 },
    6: { PGTT: "secondStage", AW: 2, SSPTPTR: ss, DID: 2 },
    7: { PGTT: "nested", AW: 2, SSPTPTR: ss, FSPTPTR: guest, DID: 2 },
  });
  // The nested tables live in pages that the second stage maps to themselves.
  const leaves: number[] = [];
  for (const address of [0x1000n, 0x3000n]) {
    leaves.push(
      bench.map(fs, 4, address, PAGE | 7n, 7n),
      bench.map(ss, 4, address, PAGE | 3n, 3n),
      bench.map(guest, 4, address, PAGE | 7n, 7n),
    );
  }
  let table = guest;
  for (let level = 4; level > 1; level--) {
    table = Number(bench.load(table) & 0xf_ffff_ffff_f000n);
    bench.map(ss, 4, BigInt(table), BigInt(table) | 3n, 3n);
  }
  bench.map(ss, 4, PAGE, PAGE | 3n, 3n);
  for (const pasid of [5, 6, 7])
    for (const address of [0x1000n, 0x3000n]) expect(bench.translate(address, Access.READ, pasid)).toBe(OK);
  for (const leaf of leaves) bench.store(leaf, 0n);
  return bench;
}

const left = (bench: Bench) =>
  [5, 6, 7].map((pasid) =>
    [0x1000n, 0x3000n].map((address) => (bench.translate(address, Access.READ, pasid) === OK ? "x" : "-")).join(""),
  );

describe("IOTLB invalidation (tables 23 and 24)", () => {
  it.each([
    ["nothing", null, ["xx", "xx", "xx"]],
    ["global", IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }), ["--", "--", "--"]],
    ["domain 2", IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "domain", DID: 2 }), ["xx", "--", "--"]],
    [
      "page of domain 2",
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 2, ADDR: 0x1000n }),
      ["xx", "-x", "--"],
    ],
    [
      "page of domain 1",
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 1, ADDR: 0x9000n }),
      ["--", "xx", "xx"],
    ],
    [
      "4 pages of domain 2",
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 2, AM: 2, ADDR: 0n }),
      ["xx", "--", "--"],
    ],
    [
      "PASID 6 of domain 2",
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "pasid", DID: 2, PASID: 6 }),
      ["xx", "--", "xx"],
    ],
    [
      "PASID 5 of another domain",
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "pasid", DID: 2, PASID: 5 }),
      ["xx", "xx", "xx"],
    ],
    [
      "page of PASID 5",
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "page", DID: 1, PASID: 5, ADDR: 0x3000n }),
      ["x-", "xx", "xx"],
    ],
    [
      "page of PASID 6, which has no first stage",
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "page", DID: 2, PASID: 6, ADDR: 0x3000n }),
      ["xx", "xx", "xx"],
    ],
    [
      "page of PASID 7",
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "page", DID: 2, PASID: 7, ADDR: 0x1000n }),
      ["xx", "xx", "-x"],
    ],
  ])("of %s", (_, descriptor, expected) => {
    const bench = stale();
    if (descriptor !== null) bench.submit(descriptor);
    expect(left(bench)).toEqual(expected);
  });
});

describe("paging-structure caches (6.2.5)", () => {
  /** The table above the leaf of 0x1000 is replaced: what a walk for another page of that table finds. */
  function replaced(stage: "firstStage" | "secondStage", descriptor: Int32Array): boolean {
    const bench = new Bench(everything);
    const root = bench.table();
    const link = stage === "firstStage" ? 7n : 3n;
    bench.scalable({
      5: stage === "firstStage" ? { PGTT: stage, FSPTPTR: root } : { PGTT: stage, AW: 2, SSPTPTR: root },
    });
    for (const address of [0x1000n, 0x2000n]) bench.map(root, 4, address, PAGE | link, link);
    bench.translate(0x1000n, Access.READ, 5);
    bench.store(root, 0n);
    bench.submit(descriptor);
    return bench.translate(0x2000n, Access.READ, 5) === OK;
  }

  it("keep what an invalidation with the leaf hint spares (IH)", () => {
    const first = (IH: boolean) =>
      PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "page", DID: 1, PASID: 5, ADDR: 0x2000n, IH });
    const second = (IH: boolean) => IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 1, ADDR: 0x2000n, IH });
    expect([replaced("firstStage", first(true)), replaced("firstStage", first(false))]).toEqual([true, false]);
    expect([replaced("secondStage", second(true)), replaced("secondStage", second(false))]).toEqual([true, false]);
  });

  it("of the first stage go with every IOTLB invalidation of their domain; of the second not with PASID-based ones", () => {
    expect(
      replaced(
        "firstStage",
        IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 1, ADDR: 0x7000_0000n, IH: true }),
      ),
    ).toBe(false);
    const byPasid = (PASID: number) => PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "pasid", DID: 1, PASID });
    expect([replaced("firstStage", byPasid(5)), replaced("firstStage", byPasid(6))]).toEqual([false, true]);
    expect(replaced("secondStage", byPasid(5))).toBe(true);
    expect(
      replaced("secondStage", IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 1, ADDR: 0x4000_0000n })),
    ).toBe(true);
    expect(replaced("secondStage", IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "domain", DID: 1 }))).toBe(false);
  });
});

describe("IOTLB", () => {
  it("holds pages of three sizes at once, and answers with the page's size", () => {
    const bench = new Bench(everything);
    const root = bench.table();
    bench.scalable({ 5: { PGTT: "firstStage", FSPTPTR: root } });
    bench.map(root, 4, 0x1000n, PAGE | 7n, 7n);
    bench.map(root, 4, 0x4000_0000n, PAGE | 0x87n, 7n, 2);
    bench.map(root, 4, 0x80_0000_0000n, 0x1_4000_0087n, 7n, 3);
    for (const round of [1, 2]) {
      const shifts = [0x1000n, 0x4001_0000n, 0x80_2000_0000n].map((address) => [
        round,
        bench.translate(address, Access.READ, 5),
        bench.out.shift,
      ]);
      expect(shifts).toEqual([
        [round, OK, 12],
        [round, OK, 21],
        [round, OK, 30],
      ]);
    }
  });

  it("keeps requests with and without PASID apart, but RID_PASID is a tag for invalidation (6.2.1)", () => {
    const bench = new Bench(everything);
    bench.scalable({ 5: { PGTT: "passThrough", DID: 3 } }, { RID_PASID: 5 });
    bench.translate(0x1000n, Access.READ);
    expect(bench.chip.iotlb.tags.size).toBe(1);
    bench.submit(PASID_IOTLB_INVALIDATE.encode({ TYPE: "pasidIotlb", G: "pasid", DID: 3, PASID: 5 }));
    expect(bench.chip.iotlb.tags.size).toBe(0);
  });

  it("holds no result of a request that was refused, but with caching mode those of the second stage (6.2.4.1)", () => {
    for (const [CM, entry, rights, then] of [
      [0, { PGTT: "firstStage" }, [5n, 7n], OK],
      [1, { PGTT: "firstStage" }, [5n, 7n], OK],
      [0, { PGTT: "secondStage", AW: 2 }, [1n, 3n], OK],
      [1, { PGTT: "secondStage", AW: 2 }, [1n, 3n], FAULT],
    ] as const) {
      const bench = new Bench(withCap(everything, { CM }));
      const root = bench.table();
      bench.scalable({ 5: { FSPTPTR: root, SSPTPTR: root, ...entry } });
      const leaf = bench.map(root, 4, 0x1000n, PAGE | rights[0], 7n);
      expect([bench.translate(0x1000n, Access.WRITE, 5), bench.takeReason()]).toEqual([FAULT, 0x85]);
      expect(bench.chip.iotlb.tags.size).toBe(then === OK ? 0 : 1);
      bench.store(leaf, PAGE | rights[1]);
      expect(bench.translate(0x1000n, Access.WRITE, 5)).toBe(then);
    }
  });

  it("forgets the oldest of a set, never answers wrongly", () => {
    const bench = new Bench({ ...everything, caches: { ...everything.caches, iotlb: 16 } });
    const root = bench.table();
    bench.scalable({ 5: { PGTT: "firstStage", FSPTPTR: root } });
    for (let page = 0; page < 64; page++)
      bench.map(root, 4, BigInt(page) << 12n, (PAGE + (BigInt(page) << 12n)) | 7n, 7n);
    for (let step = 0; step < 500; step++) {
      const page = (step * 37) % 64;
      bench.translate(BigInt(page) << 12n, Access.READ, 5);
      expect(bench.pa).toBe(Number(PAGE) + page * 4096);
    }
    expect(bench.chip.iotlb.tags.size).toBe(16);
  });
});
