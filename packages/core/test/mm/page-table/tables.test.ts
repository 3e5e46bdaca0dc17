import { describe, expect, it } from "vitest";
import {
  createVmsav8Table,
  createX86Table,
  FirstFitPages,
  PageFlag,
  type PageTableFormat,
  SlabMemory,
  type TableWriter,
  Tracer,
  VMSAV8_BLOCK_2M,
  VMSAV8_PAGE,
  VMSAV8_TABLE,
  X86_PTE,
} from "../../../src/index.js";

const { WRITE, EXEC, USER, ACCESSED, DIRTY, SPECIAL, DEVICE } = PageFlag;
const USER_PAGE = USER | ACCESSED;

function world(options: { failAlloc?: (owner: string) => boolean } = {}) {
  const memory = new SlabMemory([{ base: 0x1_0000_0000, size: 0x400_0000 }]);
  const pages = new FirstFitPages(memory, memory.regions, { poison: 0x6b, ...options });
  const trace = new Tracer(() => 0);
  return { memory, pages, trace };
}

type World = ReturnType<typeof world>;

const MAKERS: Record<string, (world: World) => TableWriter> = {
  "vmsav8-64": (w) => createVmsav8Table(w, "pid 7"),
  "x86-64": (w) => createX86Table(w, "pid 7"),
  "x86-64 with 5 levels": (w) => createX86Table(w, "pid 7", 5),
};

/** The entry that a walk of `depth` steps ends at. */
function entryAt(w: World, table: TableWriter, page: number, depth: number): bigint {
  let at = table.root;
  for (let step = 1; ; step++) {
    const index = Math.floor(page / 512 ** (table.levels - step)) % 512;
    const value = w.memory.load64(at + index * 8);
    if (step === depth) return value;
    at = Number(value & 0x0000_ffff_ffff_f000n);
  }
}

/** One page with the given flags: its entry's words. */
function leaf(format: PageTableFormat, flags: number): bigint {
  const w = world();
  const table = MAKERS[format](w);
  table.map(0x12345, 0x1_0020_0000, flags);
  return entryAt(w, table, 0x12345, 4);
}

describe("VMSAv8-64 descriptors (DDI0487 D8.3)", () => {
  it("are the values that Linux on arm64 writes for user pages", () => {
    const oa = 0x1_0020_0000n;
    expect(leaf("vmsav8-64", USER_PAGE | WRITE | DIRTY)).toBe(0x00e8_0000_0000_0f43n | oa);
    expect(leaf("vmsav8-64", USER_PAGE | WRITE)).toBe(0x0068_0000_0000_0fc3n | oa);
    expect(leaf("vmsav8-64", USER_PAGE)).toBe(0x0060_0000_0000_0fc3n | oa);
    expect(leaf("vmsav8-64", USER_PAGE | EXEC)).toBe(0x0020_0000_0000_0fc3n | oa);
    expect(leaf("vmsav8-64", USER_PAGE | SPECIAL)).toBe(0x0160_0000_0000_0fc3n | oa);
    expect(leaf("vmsav8-64", USER_PAGE | WRITE | DIRTY | SPECIAL | DEVICE)).toBe(0x01e8_0000_0000_0f4fn | oa);
  });

  it("point to tables with PXNTable, as for every user table", () => {
    const w = world();
    const table = createVmsav8Table(w, "pid 7");
    table.map(0, 0x1_0020_0000, USER_PAGE);
    const words = Int32Array.of(Number(entryAt(w, table, 0, 1) & 0xffff_ffffn), Number(entryAt(w, table, 0, 1) >> 32n));
    expect(VMSAV8_TABLE.decode(words)).toMatchObject({
      Valid: true,
      Type: "table",
      PXNTable: true,
      UXNTable: false,
      APTable: "none",
    });
    expect(VMSAV8_TABLE.reservedViolated(words)).toBe(false);
  });

  it("give block descriptors bit 1 = 0 and the address from bit 21 or 30 up", () => {
    const w = world();
    const table = createVmsav8Table(w, "pid 7");
    table.map(512, 0x1_0020_0000, USER_PAGE | WRITE | DIRTY, 21);
    table.map(512 * 512, 0x1_4000_0000, USER_PAGE, 30);
    expect(entryAt(w, table, 512, 3)).toBe(0x00e8_0001_0020_0f41n);
    expect(entryAt(w, table, 512 * 512, 2)).toBe(0x0060_0001_4000_0fc1n);
    expect(VMSAV8_BLOCK_2M.OA.lsb).toBe(21);
  });

  it("say dirty when hardware has cleared AP2 of a writable clean page (DBM)", () => {
    const w = world();
    const table = createVmsav8Table(w, "pid 7");
    table.map(5, 0x1_0020_0000, USER_PAGE | WRITE);
    const at = tableOf(w, table, 5) + 5 * 8;
    expect(table.lookup(0x5000n)?.flags).toBe(USER_PAGE | WRITE);
    w.memory.store32(at, w.memory.load32(at) & ~VMSAV8_PAGE.AP2.lowMask);
    expect(table.lookup(0x5000n)?.flags).toBe(USER_PAGE | WRITE | DIRTY);
    // Write-protected, it stays dirty in bit 55: the information must not get lost.
    table.change(5, 6, 0, WRITE);
    expect(entryAt(w, table, 5, 4)).toBe(0x00e0_0001_0020_0fc3n);
  });
});

function tableOf(w: World, table: TableWriter, page: number): number {
  return Number(entryAt(w, table, page, table.levels - 1) & 0x0000_ffff_ffff_f000n);
}

describe("x86-64 entries (SDM3 4.5)", () => {
  it("are the values that Linux on x86-64 writes for user pages", () => {
    const pa = 0x1_0020_0000n;
    expect(leaf("x86-64", USER_PAGE | WRITE | DIRTY)).toBe(0x8000_0000_0000_0867n | pa);
    expect(leaf("x86-64", USER_PAGE | WRITE)).toBe(0x8000_0000_0000_0027n | pa);
    expect(leaf("x86-64", USER_PAGE)).toBe(0x8000_0000_0000_0025n | pa);
    expect(leaf("x86-64", USER_PAGE | EXEC)).toBe(0x0000_0000_0000_0025n | pa);
    expect(leaf("x86-64", USER_PAGE | SPECIAL)).toBe(0x8000_0000_0000_0225n | pa);
    expect(leaf("x86-64", USER_PAGE | WRITE | DIRTY | SPECIAL | DEVICE)).toBe(0x8000_0000_0000_0a77n | pa);
  });

  it("are user, writable and executable on every level above the page (_PAGE_TABLE)", () => {
    const w = world();
    const table = createX86Table(w, "pid 7", 5);
    table.map(0x7_ffff_ffff, 0x1_0020_0000, USER_PAGE);
    for (const depth of [1, 2, 3, 4])
      expect(entryAt(w, table, 0x7_ffff_ffff, depth) & 0x8000_0000_0000_0fffn).toBe(0x67n);
    expect(X86_PTE.P.lsb).toBe(0);
  });

  it("give large pages PS = 1", () => {
    const w = world();
    const table = createX86Table(w, "pid 7");
    table.map(512, 0x1_0020_0000, USER_PAGE | WRITE | DIRTY, 21);
    table.map(512 * 512, 0x1_4000_0000, USER_PAGE, 30);
    expect(entryAt(w, table, 512, 3)).toBe(0x8000_0001_0020_08e7n);
    expect(entryAt(w, table, 512 * 512, 2)).toBe(0x8000_0001_4000_00a5n);
  });
});

describe.each(Object.keys(MAKERS))("TableWriter of %s", (name) => {
  const make = MAKERS[name];

  it("finds what was mapped, with the offset, at each size", () => {
    const w = world();
    const table = make(w);
    table.map(1, 0x1_0300_0000, USER_PAGE | WRITE);
    table.map(1024, 0x1_0020_0000, USER_PAGE | EXEC, 21);
    table.map(512 * 1024, 0x1_8000_0000, USER | DEVICE, 30);
    expect(table.lookup(0x1abcn)).toEqual({ pa: 0x1_0300_0abc, shift: 12, flags: USER_PAGE | WRITE });
    expect(table.lookup(0x41_2345n)).toEqual({ pa: 0x1_0021_2345, shift: 21, flags: USER_PAGE | EXEC });
    expect(table.lookup(0x8345_6789n)).toEqual({ pa: 0x1_8345_6789, shift: 30, flags: USER | DEVICE });
    expect(table.lookup(0x2000n)).toBeUndefined();
    expect(table.lookup(1n << 60n)).toBeUndefined();
  });

  it("changes flags over a range and tells what was there", () => {
    const table = make(world());
    for (let page = 508; page < 520; page++) table.map(page, 0x1_0100_0000 + page * 4096, USER_PAGE | WRITE | DIRTY);
    expect(table.change(510, 515, 0, WRITE | ACCESSED)).toBe(USER_PAGE | WRITE | DIRTY);
    const flags = (page: number) => table.lookup(BigInt(page) << 12n)?.flags;
    expect([509, 510, 514, 515].map(flags)).toEqual([
      USER_PAGE | WRITE | DIRTY,
      USER | DIRTY,
      USER | DIRTY,
      USER_PAGE | WRITE | DIRTY,
    ]);
    expect(table.change(0, 2 ** 30, 0, 0) & WRITE).toBe(WRITE);
    expect(table.change(1000, 2000, 0, WRITE)).toBe(0);
  });

  it("hands empty tables back instead of freeing them", () => {
    const w = world();
    const table = make(w);
    const empty = table.bytes;
    for (let page = 500; page < 530; page++) table.map(page, 0x1_0100_0000, USER_PAGE);
    const full = table.bytes;
    expect(full).toBe(empty + 4096 * table.levels);
    const emptied: number[] = [];
    table.clear(0, 512, emptied);
    expect(emptied).toHaveLength(1);
    expect(table.bytes).toBe(full);
    expect(w.memory.load32(emptied[0])).toBe(0);
    table.release(emptied);
    expect(table.bytes).toBe(full - 4096);
    table.clear(0, 2 ** 40, emptied);
    table.release(emptied.slice(1));
    expect(table.bytes).toBe(empty);
    table.destroy();
    expect(w.pages.usage().size).toBe(0);
  });

  it("splits a cleared block into 512 pages", () => {
    const w = world();
    const table = make(w);
    table.map(512, 0x1_0020_0000, USER_PAGE | WRITE, 21);
    expect(() => table.clear(512, 600, [])).toThrow("part of the block");
    const emptied: number[] = [];
    table.clear(512, 1024, emptied);
    table.release(emptied);
    table.mapSplit(512, 0x1_0020_0000, USER_PAGE | WRITE, 21);
    expect(table.lookup(0x20_0000n)).toEqual({ pa: 0x1_0020_0000, shift: 12, flags: USER_PAGE | WRITE });
    expect(table.lookup(0x3f_ffffn)).toEqual({ pa: 0x1_003f_ffff, shift: 12, flags: USER_PAGE | WRITE });
    expect(() => table.map(512, 0, 0, 21)).toThrow("smaller pages are mapped");
    table.destroy();
    expect(w.pages.usage().size).toBe(0);
  });

  it("leaves the tables as they were when no memory is left", () => {
    let left = Number.POSITIVE_INFINITY;
    const w = world({ failAlloc: () => left-- <= 0 });
    const table = make(w);
    left = 2;
    expect(() => table.map(77, 0x1_0100_0000, USER_PAGE)).toThrow("ENOMEM");
    expect(table.bytes).toBe(4096);
    expect(w.pages.usage()).toEqual(new Map([[`pid 7 ${table.format} table`, 1]]));
    expect(w.memory.load64(table.root)).toBe(0n);
    left = 1;
    expect(() => table.mapSplit(512, 0x1_0020_0000, USER_PAGE, 21)).toThrow("ENOMEM");
    expect(table.bytes).toBe(4096);
  });

  it("fills a new table before the table above points to it", () => {
    const w = world();
    const table = make(w);
    const order: string[] = [];
    w.trace.on("table:written", (event) => order.push(event.table));
    table.map(77, 0x1_0100_0000, USER_PAGE);
    const names = name === "vmsav8-64" ? ["L3", "L2", "L1", "L0"] : ["PTE", "PDE", "PDPTE", "PML4E", "PML5E"];
    expect(order).toEqual(names.slice(0, table.levels));
  });
});
