import { hex, IommuProt, isErrno } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FIRST_STAGE_FORMAT, secondStageFormat } from "../../src/driver/paging-format.js";
import { FIRST_STAGE_ENTRY, SECOND_STAGE_ENTRY } from "../../src/spec/page-table.js";
import { leaves, newTable } from "./tables.js";

const RW = IommuProt.READ | IommuProt.WRITE;
const SIZES = [0x1000, 0x20_0000, 0x4000_0000];
const formats = [
  ["second stage, 3 levels", () => newTable(3)],
  ["second stage, 4 levels", () => newTable(4)],
  ["second stage, 5 levels", () => newTable(5)],
  ["first stage, 4 levels", () => newTable(4, FIRST_STAGE_FORMAT)],
  ["first stage, 5 levels", () => newTable(5, FIRST_STAGE_FORMAT)],
] as const;

type Setup = ReturnType<typeof newTable>;

function map({ table }: Setup, iova: number, pa: number, pgsize: number, count = 1, prot = RW): number {
  return table.map(BigInt(iova), pa, pgsize, count, prot, false);
}

/** Unmaps and gives the tables back, as after an invalidation. */
function unmap({ table }: Setup, iova: number, pgsize: number, count = 1): number {
  const freed: number[] = [];
  const size = table.unmap(BigInt(iova), pgsize, count, freed);
  table.release(freed);
  return size;
}

function pagesInUse({ pages }: Setup): number {
  return [...pages.usage().values()].reduce((sum, count) => sum + count, 0);
}

/** Names are those of the kernel's generic page table tests. */
describe.each(formats)("PageTable, %s", (_name, create) => {
  it("maps one page of each size, translates all of it and unmaps it (map_simple)", () => {
    const setup = create();
    let va = 256 * 0x1000;
    const mapped: [number, number, number][] = [];
    const wrong: string[] = [];
    for (const size of SIZES) {
      va = Math.ceil(va / size) * size;
      const pa = Math.floor(0x74_7173_a1e5_000 / size) * size;
      expect(map(setup, va, pa, size)).toBe(size);
      mapped.push([va, pa, size]);
      va += size;
    }
    expect([...leaves(setup)].sort(([a], [b]) => a - b)).toEqual(SIZES.map((size) => [size, 1]));
    for (const [at, pa, size] of mapped) {
      const step = size === SIZES[2] ? 0x1000 * 511 : 0x1000;
      for (let offset = 0; offset < size; offset += step) {
        if (setup.table.iovaToPhys(BigInt(at + offset)) !== pa + offset) wrong.push(hex(at + offset));
      }
      expect(setup.table.iovaToPhys(BigInt(at + size - 1))).toBe(pa + size - 1);
      expect(unmap(setup, at, size)).toBe(size);
      expect(setup.table.iovaToPhys(BigInt(at))).toBeUndefined();
    }
    expect(leaves(setup).size).toBe(0);
    expect(wrong).toEqual([]);
  });

  it("takes a leaf over an emptied table, and frees the table (map_table_to_oa)", () => {
    const setup = create();
    const largest = SIZES[2];
    for (const size of SIZES) {
      const count = largest / size;
      expect(map(setup, largest, largest, size, count)).toBe(largest);
      expect(leaves(setup)).toEqual(new Map([[size, count]]));
      // The first half in one call, the rest one by one.
      const half = Math.max(1, count / 2);
      let removed = unmap(setup, largest, size, half);
      for (let i = half; i < count; i++) removed += unmap(setup, largest + i * size, size);
      expect(removed).toBe(largest);
      expect(leaves(setup).size).toBe(0);
      expect(map(setup, largest, largest, largest)).toBe(largest);
      setup.table.release(setup.table.retired);
      expect(leaves(setup)).toEqual(new Map([[largest, 1]]));
      expect(pagesInUse(setup)).toBe(setup.table.levels - 2);
      expect(unmap(setup, largest, largest)).toBe(largest);
    }
  });

  it.each([
    [0x1000, 0x20_0000],
    [0x1000, 0x4000_0000],
    [0x20_0000, 0x4000_0000],
  ])(
    "removes a whole large page when unmap asks for %i bytes of %i, and nothing after it (unmap_split)",
    (small, large) => {
      const setup = create();
      map(setup, large, 0, large);
      expect(unmap(setup, large, small)).toBe(large);
      expect(leaves(setup).size).toBe(0);
      map(setup, large, 0, large);
      map(setup, 2 * large, large, large);
      expect(unmap(setup, large, small)).toBe(large);
      expect(setup.table.iovaToPhys(BigInt(2 * large))).toBe(large);
      expect(unmap(setup, 2 * large, large)).toBe(large);
    },
  );

  it("removes nothing from the middle of a large page (V-10)", () => {
    const setup = create();
    map(setup, 0x20_0000, 0, 0x20_0000);
    expect(unmap(setup, 0x20_1000, 0x1000)).toBe(0);
    expect(setup.table.iovaToPhys(0x20_1000n)).toBe(0x1000);
  });

  it.each(SIZES)("refuses a page of %i bytes over a mapping of any size and leaves it (overmap)", (over) => {
    const setup = create();
    for (const size of SIZES) {
      map(setup, 0x4000_0000, 0x8000_0000, size);
      expect(() => map(setup, 0x4000_0000, 0, over)).toThrow("EEXIST");
      expect(setup.table.iovaToPhys(0x4000_0000n)).toBe(0x8000_0000);
      expect(unmap(setup, 0x4000_0000, size)).toBe(size);
    }
    expect(leaves(setup).size).toBe(0);
  });

  it("undoes what it had mapped when it meets a mapping", () => {
    const setup = create();
    map(setup, 0x40_0000, 0, 0x1000);
    expect(() => map(setup, 0x3f_0000, 0x100_0000, 0x1000, 32)).toThrow("EEXIST");
    expect(leaves(setup)).toEqual(new Map([[0x1000, 1]]));
    expect(setup.table.iovaToPhys(0x40_0000n)).toBe(0);
  });

  it("keeps random ranges apart and leaves nothing behind (random_map)", () => {
    const run = fc.record({ page: fc.nat(0x3_ffff), count: fc.integer({ min: 1, max: 2048 }) });
    const runs = fc.sample(run, { numRuns: 1000, seed: 7 });
    const setup = create();
    const live = new Map<number, number>();
    const refused = (page: number, count: number) => {
      try {
        map(setup, page * 0x1000, page * 0x1000, 0x1000, count);
        return false;
      } catch (error) {
        return isErrno(error, "EEXIST");
      }
    };
    for (const { page, count } of runs) {
      const clashes = [...live].filter(([at, length]) => at < page + count && page < at + length);
      expect(refused(page, count)).toBe(clashes.length > 0);
      let removed = 0;
      for (const [at, length] of clashes) {
        removed += unmap(setup, at * 0x1000, 0x1000, length);
        live.delete(at);
      }
      expect(removed).toBe(clashes.reduce((sum, [, length]) => sum + length, 0) * 0x1000);
      expect(refused(page, count)).toBe(clashes.length === 0);
      live.set(page, count);
      expect(setup.table.iovaToPhys(BigInt((page + count) * 0x1000 - 1))).toBe((page + count) * 0x1000 - 1);
    }
    for (const [at, length] of live) expect(unmap(setup, at * 0x1000, 0x1000, length)).toBe(length * 0x1000);
    expect(leaves(setup).size).toBe(0);
    setup.table.free();
    expect(pagesInUse(setup)).toBe(0);
  });

  it("maps across the boundary of a table (pgsize_boundary)", () => {
    const setup = create();
    expect(map(setup, 0xfef8_0000, 0x20_8b95_d000, 0x1000, 0x20)).toBe(0x2_0000);
    expect(setup.table.iovaToPhys(0xfef8_0000n)).toBe(0x20_8b95_d000);
    expect(setup.table.iovaToPhys(0xfef9_ffffn)).toBe(0x20_8b97_cfff);
  });

  it("makes an entry for each run of pages that shrinks towards the ends (mixed)", () => {
    const setup = create();
    const start = 0x3_fe40_0000;
    map(setup, start, start, 0x20_0000, 14);
    map(setup, start + 14 * 0x20_0000, start + 14 * 0x20_0000, 0x4000_0000, 3);
    map(setup, 0x4_c000_0000, 0x4_c000_0000, 0x20_0000, 3);
    expect(leaves(setup)).toEqual(
      new Map([
        [0x20_0000, 17],
        [0x4000_0000, 3],
      ]),
    );
    expect(setup.table.iovaToPhys(BigInt(start + 0xc220_0000 - 1))).toBe(start + 0xc220_0000 - 1);
  });

  it("says which leaf was written, and forgets it when told (dirty)", () => {
    const setup = create();
    for (const size of SIZES) {
      map(setup, 0x4000_0000, 0, size);
      setup.table.clearDirty(0x4000_0000n);
      expect(setup.table.leafAt(0x4000_0000n)).toEqual({ size, dirty: false });
      const level = SIZES.indexOf(size) + 1;
      const entry = entryAddress(setup, 0x4000_0000, level);
      setup.memory.store32(entry, setup.memory.load32(entry) | setup.table.format.dirty);
      expect(setup.table.leafAt(BigInt(0x4000_0000 + size - 1))).toEqual({ size, dirty: true });
      expect(setup.table.clearDirty(0x4000_0000n)).toBe(true);
      expect(setup.table.clearDirty(0x4000_0000n)).toBe(false);
      expect(setup.table.iovaToPhys(0x4000_0000n)).toBe(0);
      unmap(setup, 0x4000_0000, size);
    }
  });

  it("ignores the bits that are software's in leaves and tables (sw_bits)", () => {
    const setup = create();
    const software =
      setup.table.format === FIRST_STAGE_FORMAT ? [9, 11, 52, 58, 62] : [10, 52, 53, 54, 55, 56, 57, 58, 59, 60, 63];
    map(setup, 0x4000_0000, 0x1234_5000, 0x1000);
    for (let level = 1; level <= setup.table.levels; level++) {
      const entry = entryAddress(setup, 0x4000_0000, level);
      for (const bit of software) {
        const word = entry + (bit >> 5) * 4;
        const before = setup.memory.load32(word);
        expect((before >>> (bit & 31)) & 1).toBe(0);
        setup.memory.store32(word, before | (1 << (bit & 31)));
        expect(setup.table.iovaToPhys(0x4000_0abcn)).toBe(0x1234_5abc);
        setup.memory.store32(word, before);
      }
    }
  });

  it("makes the same leaf again from the attributes that it reads in one (attr_from_entry)", () => {
    for (const size of SIZES)
      for (const prot of [IommuProt.READ, IommuProt.WRITE, RW])
        for (const snoop of [false, true]) {
          const setup = create();
          const first = setup.table.format === FIRST_STAGE_FORMAT;
          if (first && prot === IommuProt.WRITE) continue;
          const level = Math.log2(size / 0x1000) / 9 + 1;
          const leaf = (at: number) => {
            const entry = entryAddress(setup, at, level);
            return Int32Array.of(setup.memory.load32(entry), setup.memory.load32(entry + 4));
          };
          setup.table.map(BigInt(size), 7 * size, size, 1, prot, snoop);
          const words = leaf(size);
          const read = first
            ? { prot: FIRST_STAGE_ENTRY.RW.get(words) === 1 ? RW : IommuProt.READ, snoop }
            : {
                prot:
                  (SECOND_STAGE_ENTRY.R.get(words) === 1 ? IommuProt.READ : 0) |
                  (SECOND_STAGE_ENTRY.W.get(words) === 1 ? IommuProt.WRITE : 0),
                snoop: SECOND_STAGE_ENTRY.SNP.get(words) === 1,
              };
          expect(read).toEqual({ prot, snoop });
          setup.table.map(BigInt(2 * size), 7 * size, size, 1, read.prot, read.snoop);
          expect(leaf(2 * size)).toEqual(words);
        }
  });

  it("reads back the address of a leaf at each level, and of an offset in it (entry_oa)", () => {
    for (const size of SIZES) {
      const setup = create();
      const pa = size * 0x3_1415;
      map(setup, size, pa, size);
      expect(setup.table.iovaToPhys(BigInt(size))).toBe(pa);
      expect(setup.table.iovaToPhys(BigInt(size) + 0xabcn)).toBe(pa + 0xabc);
      expect(setup.table.iovaToPhys(BigInt(2 * size - 1))).toBe(pa + size - 1);
    }
  });

  it("covers the whole input range, and each table as much as one entry above it (radix)", () => {
    const setup = create();
    const top = 0x1000 * 512 ** setup.table.levels;
    map(setup, top - 0x1000, 0x1000, 0x1000);
    expect(setup.table.iovaToPhys(BigInt(top) - 1n)).toBe(0x1fff);
    expect(setup.table.iovaToPhys(BigInt(top))).toBeUndefined();
    for (let level = 1; level <= setup.table.levels; level++)
      expect(entryAddress(setup, top - 0x1000, level) % 0x1000).toBe(0xff8);
    expect(pagesInUse(setup)).toBe(setup.table.levels);
  });

  it("maps what fits when no page is left for a table, and says how much", () => {
    const setup = create();
    expect(map(setup, 0, 0, 0x1000, 512)).toBe(512 * 0x1000);
    let free: number[] = [];
    try {
      for (;;) free.push(setup.pages.alloc(1024, "hog", 0x1000));
    } catch (error) {
      if (!isErrno(error, "ENOMEM")) throw error;
    }
    try {
      for (;;) free.push(setup.pages.alloc(1, "hog"));
    } catch (error) {
      if (!isErrno(error, "ENOMEM")) throw error;
    }
    unmap(setup, 0x1000, 0x1000, 511);
    expect(map(setup, 0x1000, 0x1000, 0x1000, 600)).toBe(511 * 0x1000);
    expect(() => map(setup, 0x20_0000, 0, 0x1000)).toThrow("ENOMEM");
    for (const page of free.splice(0)) setup.pages.free(page);
    free = [];
    expect(map(setup, 0x20_0000, 0, 0x1000)).toBe(0x1000);
  });
});

/** Physical address of the entry that covers `iova` at a level, found with the field tables. */
function entryAddress({ memory, table }: Setup, iova: number, level: number): number {
  let at = table.root;
  for (let here = table.levels; ; here--) {
    const entry = at + (Math.floor(iova / (0x1000 * 512 ** (here - 1))) % 512) * 8;
    if (here === level) return entry;
    at = Number(SECOND_STAGE_ENTRY.ADDR.getBig(Int32Array.of(memory.load32(entry), memory.load32(entry + 4))));
  }
}

function leafWords(setup: Setup, prot: number, snoop = false): Int32Array {
  setup.table.map(0n, 0x5000, 0x1000, 1, prot, snoop);
  const entry = entryAddress(setup, 0, 1);
  return Int32Array.of(setup.memory.load32(entry), setup.memory.load32(entry + 4));
}

describe("Second-Stage Paging Entry", () => {
  it("is address, R, W and SNP in a leaf, R and W in a table entry (9.8)", () => {
    const setup = newTable(4);
    expect(SECOND_STAGE_ENTRY.decode(leafWords(setup, RW, true))).toMatchObject({
      R: true,
      W: true,
      X: false,
      SNP: true,
      PS: false,
      A: false,
      D: false,
      ADDR: 0x5000,
    });
    expect(setup.memory.load32(setup.table.root) & 0xfff).toBe(3);
  });

  it("lets a write-only mapping be written only", () => {
    expect(SECOND_STAGE_ENTRY.decode(leafWords(newTable(3), IommuProt.WRITE))).toMatchObject({ R: false, W: true });
  });

  it("lets a write-only mapping be read as Linux up to 6.12 does, when asked to", () => {
    expect(SECOND_STAGE_ENTRY.decode(leafWords(newTable(3, secondStageFormat(true)), IommuProt.WRITE))).toMatchObject({
      R: true,
      W: true,
    });
  });

  it("has PS in a leaf above level 1", () => {
    const setup = newTable(4);
    setup.table.map(0n, 0, 0x20_0000, 1, RW, false);
    expect(setup.memory.load32(entryAddress(setup, 0, 2))).toBe(0x83);
  });
});

describe("First-Stage Paging Entry", () => {
  it("is a user page that is accessed, and dirty when it may be written: hardware need not update it", () => {
    expect(FIRST_STAGE_ENTRY.decode(leafWords(newTable(4, FIRST_STAGE_FORMAT), RW))).toMatchObject({
      P: true,
      RW: true,
      US: true,
      A: true,
      D: true,
    });
    expect(FIRST_STAGE_ENTRY.decode(leafWords(newTable(4, FIRST_STAGE_FORMAT), IommuProt.READ))).toMatchObject({
      P: true,
      RW: false,
      US: true,
      A: true,
      D: false,
    });
  });
});

describe("map", () => {
  it.each([
    ["no access", 0n, 0, 0x1000, 0],
    ["a page size that is none", 0n, 0, 0x2000, RW],
    ["an unaligned IOVA", 0x1000n, 0, 0x20_0000, RW],
    ["an unaligned physical address", 0n, 0x1000, 0x20_0000, RW],
  ])("refuses %s with EINVAL", (_what, iova, pa, pgsize, prot) => {
    expect(() => newTable(4).table.map(iova, pa, pgsize, 1, prot, false)).toThrow("EINVAL");
  });
});
