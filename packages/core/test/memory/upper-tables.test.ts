import { describe, expect, it } from "vitest";
import { type MemoryWindow, UpperTables } from "../../src/index.js";

/** Bit 0: present; bit 7: a page, not a table. Address bits 47:12. */
class Tables extends UpperTables {
  constructor(window: MemoryWindow, root: number, levels: number) {
    super({ mask: 0x81, table: 1, addressHi: 0xffff });
    this.begin(window, root, levels);
  }
}

const HI = 5;
const BASE = 0x10_0000;
const [ROOT, MIDDLE, LAST, OTHER] = [0, 0x1000, 0x2000, 0x3000].map((offset) => BASE + offset);

/** Four pages of memory from 5:0010_0000 on, with an entry of index 3 in each of two tables. */
function memory(): { window: MemoryWindow; store: (address: number, lo: number, hi?: number) => void } {
  const window = { words: new Int32Array(4 * 1024), hi: HI, first: BASE >>> 2 };
  const store = (address: number, lo: number, hi = HI) => {
    window.words.set([lo, hi], (address - BASE) >>> 2);
  };
  store(ROOT + 3 * 8, MIDDLE | 0x65, HI | (1 << 31));
  store(MIDDLE + 3 * 8, LAST | 0x27);
  return { window, store };
}

/** Index 3 on both levels: 3 x 512 GiB and 3 x 1 GiB. */
const [VA_HI, VA_LO] = [3 << 7, 0xc000_0000 | 0];

describe("upper tables", () => {
  it("lead to the table whose entries map 2 MiB, and say what their entries have in common", () => {
    const { window } = memory();
    const tables = new Tables(window, ROOT, 2);
    expect(tables.climb(VA_HI, VA_LO)).toBe(1);
    expect(tables.table).toBe((LAST - BASE) >>> 2);
    expect(tables.region).toBe((VA_HI << 2) | (VA_LO >>> 30));
    expect([tables.everyLow & 0xfff, tables.anyHigh]).toEqual([0x25, HI | (1 << 31)]);
    const single = new Tables(window, MIDDLE, 1);
    expect(single.climb(0, VA_LO)).toBe(1);
    expect([single.table, single.everyLow & 0xfff]).toEqual([(LAST - BASE) >>> 2, 0x27]);
  });

  it("see every change of a word of either entry", () => {
    const { window, store } = memory();
    const tables = new Tables(window, ROOT, 2);
    tables.climb(VA_HI, VA_LO);
    for (const entry of [ROOT, MIDDLE])
      for (const word of [0, 1])
        for (let bit = 0; bit < 32; bit++) {
          const at = ((entry + 3 * 8 - BASE) >>> 2) + word;
          window.words[at] ^= 1 << bit;
          expect(tables.changed(window.words)).not.toBe(0);
          window.words[at] ^= 1 << bit;
          expect(tables.changed(window.words)).toBe(0);
        }
    store(MIDDLE + 3 * 8, OTHER | 1);
    expect(tables.climb(VA_HI, VA_LO)).toBe(1);
    expect(tables.table).toBe((OTHER - BASE) >>> 2);
  });

  it.each([
    ["is not present", MIDDLE | 0x64, HI],
    ["maps a page", MIDDLE | 0xe5, HI],
    ["leads below the window", (BASE - 0x1000) | 1, HI],
    ["leads beyond the window", (BASE + 0x4000) | 1, HI],
    ["leads to another high word", MIDDLE | 1, HI + 1],
  ])("do not answer for an entry that %s", (_, lo, hi) => {
    const { window, store } = memory();
    const tables = new Tables(window, ROOT, 2);
    expect(tables.climb(VA_HI, VA_LO)).toBe(1);
    store(ROOT + 3 * 8, lo, hi);
    expect(tables.climb(VA_HI, VA_LO)).toBe(0);
    expect(tables.region).toBe(-1);
  });

  it("find a root that is smaller than a page within its page", () => {
    const { window, store } = memory();
    const tables = new Tables(window, OTHER + 0x100, 2);
    expect(tables.climb(VA_HI, VA_LO)).toBe(0);
    store(OTHER + 0x100 + 3 * 8, MIDDLE | 1);
    expect(tables.climb(VA_HI, VA_LO)).toBe(1);
  });
});
