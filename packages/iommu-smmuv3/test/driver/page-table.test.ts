import { hex, IommuProt, type IotlbGather, isErrno, newGather, SlabMemory } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { IoPageTable } from "../../src/driver/page-table.js";
import {
  type PageTableConfig,
  PageTableQuirk,
  pageTableGeometry,
  stageTwoControl,
} from "../../src/driver/page-table-geometry.js";

const BASE: PageTableConfig = {
  format: "ARM_64_LPAE_S1",
  pgsizeBitmap: 0x4020_1000n,
  ias: 48,
  oas: 48,
  quirks: PageTableQuirk.NO_WARN,
  coherentWalk: true,
};
const POOL = 0x1000_0000;
const RW = IommuProt.READ | IommuProt.WRITE;

class Pool {
  next = POOL;
  readonly live = new Set<number>();
  alloc(bytes: number): number {
    const size = Math.max(bytes, 4096);
    const pa = Math.ceil(this.next / size) * size;
    this.next = pa + size;
    this.live.add(pa);
    return pa;
  }
  free(pa: number): void {
    this.live.delete(pa);
  }
}

let memory: SlabMemory;
let pool: Pool;
let flushed: string[];
let warnings: string[];

beforeEach(() => {
  memory = new SlabMemory([{ base: POOL, size: 0x100_0000 }]);
  pool = new Pool();
  flushed = [];
  warnings = [];
});

function make(config: Partial<PageTableConfig> = {}): IoPageTable {
  const flush = {
    addPages: (_gather: IotlbGather, iova: bigint, granule: number, count: number) =>
      void flushed.push(`pages ${hex(iova)} ${count}x${hex(granule)}`),
    flushWalk: (iova: bigint, size: number) => void flushed.push(`walk ${hex(iova)} ${hex(size)}`),
  };
  return new IoPageTable({ ...BASE, ...config }, memory, pool, flush, (reason) => warnings.push(reason));
}

function code(body: () => unknown): string | undefined {
  try {
    body();
  } catch (error) {
    if (isErrno(error)) return error.code;
    throw error;
  }
  return undefined;
}

describe("IoPageTable: io-pgtable-arm (G19)", () => {
  it("writes table, block and page descriptors (G18)", () => {
    const table = make();
    expect(table.map(0x40_0000n, 0x8000_0000, 0x20_0000, 1, RW | IommuProt.CACHE)).toBe(0x20_0000);
    expect(table.map(0x1000n, 0x9000_0000, 0x1000, 2, IommuProt.READ | IommuProt.NOEXEC)).toBe(0x2000);
    const [root, level1, level2, level3] = [table.root, POOL + 0x1000, POOL + 0x2000, POOL + 0x3000];
    expect(hex(memory.load64(root))).toBe(hex(BigInt(level1 + 3)));
    expect(hex(memory.load64(level1))).toBe(hex(BigInt(level2 + 3)));
    // Block, AttrIndx = 1, AP[1], inner shareable, AF, nG.
    expect(hex(memory.load64(level2 + 16))).toBe("0x80000f45");
    // Page, AP[2:1] = 3, outer shareable, AF, nG, PXN, UXN.
    expect(hex(memory.load64(level3 + 8))).toBe("0x60000090000ec3");
    expect(hex(memory.load64(level3 + 16))).toBe("0x60000090001ec3");
  });

  it("stops a map at the end of a table and says how far it came", () => {
    const table = make();
    expect(table.map(0x1f_e000n, 0x8000_0000, 0x1000, 8, RW)).toBe(0x2000);
    expect(table.iovaToPhys(0x1f_ffffn)).toBe(0x8000_1fff);
    expect(table.iovaToPhys(0x20_0000n)).toBeUndefined();
  });

  it("refuses to map over a mapping, and over part of a block, with EEXIST", () => {
    const table = make();
    table.map(0n, 0x8000_0000, 0x20_0000, 1, RW);
    expect(code(() => table.map(0n, 0, 0x20_0000, 1, RW))).toBe("EEXIST");
    expect(code(() => table.map(0x1000n, 0, 0x1000, 1, RW))).toBe("EEXIST");
    expect(warnings).toEqual([]);
  });

  it("refuses with ERANGE what leaves the input or output size, with EINVAL a size or protection that it does not know", () => {
    const table = make({ ias: 40, oas: 40 });
    expect(code(() => table.map(1n << 40n, 0, 0x1000, 1, RW))).toBe("ERANGE");
    expect(code(() => table.map(0n, 2 ** 40, 0x1000, 1, RW))).toBe("ERANGE");
    expect(code(() => table.map(0n, 0, 0x2000, 1, RW))).toBe("EINVAL");
    expect(code(() => table.map(0n, 0, 0x1000, 1, IommuProt.CACHE))).toBe("EINVAL");
    // 0x201000 is made of known sizes, but no level has entries of it.
    expect(code(() => table.map(0n, 0, 0x20_1000, 1, RW))).toBe("EINVAL");
  });

  it("never splits a block: unmapping part of one unmaps nothing", () => {
    const table = make();
    table.map(0n, 0x8000_0000, 0x20_0000, 1, RW);
    expect(table.unmap(0x1000n, 0x1000, 1, newGather())).toBe(0);
    expect(warnings).toHaveLength(1);
    expect(table.iovaToPhys(0x1000n)).toBe(0x8000_1000);
  });

  it("cuts off a whole table when its range is unmapped at once, flushes walks through it, and frees it (I-7)", () => {
    const table = make();
    table.map(0x20_0000n, 0x8000_0000, 0x1000, 4, RW);
    const before = pool.live.size;
    expect(table.unmap(0x20_0000n, 0x20_0000, 1, newGather())).toBe(0x20_0000);
    expect(flushed).toEqual(["walk 0x200000 0x200000", "pages 0x200000 1x0x200000"]);
    expect(pool.live.size).toBe(before - 1);
  });

  it("replaces a table by a block, and frees it (G19)", () => {
    const table = make();
    table.map(0x20_0000n, 0x8000_0000, 0x1000, 4, RW);
    table.unmap(0x20_0000n, 0x1000, 4, newGather());
    const before = pool.live.size;
    expect(table.map(0x20_0000n, 0x9000_0000, 0x20_0000, 1, RW)).toBe(0x20_0000);
    expect(flushed.at(-1)).toBe("walk 0x200000 0x200000");
    expect(pool.live.size).toBe(before - 1);
    expect(table.iovaToPhys(0x20_1234n)).toBe(0x9000_1234);
  });

  it("stops an unmap at the first hole, with a warning unless NO_WARN (G19)", () => {
    for (const quirks of [0, PageTableQuirk.NO_WARN]) {
      const table = make({ quirks });
      warnings = [];
      table.map(0n, 0x8000_0000, 0x1000, 2, RW);
      expect(table.unmap(0n, 0x1000, 4, newGather())).toBe(0x2000);
      expect(table.unmap(1n << 40n, 0x1000, 1, newGather())).toBe(0);
      expect(code(() => table.map(0n, 0, 0x20_0000, 1, RW))).toBeUndefined();
      expect(code(() => table.map(0n, 0, 0x20_0000, 1, RW))).toBe("EEXIST");
      expect(warnings).toEqual(
        quirks === 0
          ? [
              "unmap of 0x2000, which is not mapped",
              "unmap of 0x10000000000, which is not mapped",
              "map over a mapping at 0x0",
            ]
          : [],
      );
    }
  });

  it("unmaps nothing, with a warning, of a size that it does not know or out of range", () => {
    const table = make();
    expect([table.unmap(0n, 0x2000, 1), table.unmap(1n << 48n, 0x1000, 1), table.unmap(0n, 0x1000, 0)]).toEqual([
      0, 0, 0,
    ]);
    expect(warnings).toHaveLength(3);
  });

  it("takes the upper addresses for a TTBR1 table", () => {
    const table = make({ quirks: PageTableQuirk.ARM_TTBR1, ias: 39 });
    const va = -(1n << 39n) + 0x1000n;
    expect(table.map(va, 0x8000_0000, 0x1000, 1, RW)).toBe(0x1000);
    expect(table.iovaToPhys(va)).toBe(0x8000_0000);
    expect(code(() => table.map(0x1000n, 0x8000_0000, 0x1000, 1, RW))).toBe("ERANGE");
  });

  it("says nothing of leaf entries to a gather that is queued for later (lazy mode)", () => {
    const table = make();
    table.map(0n, 0x8000_0000, 0x1000, 2, RW);
    expect(table.unmap(0n, 0x1000, 2, newGather(true))).toBe(0x2000);
    expect(flushed).toEqual([]);
  });

  it("takes the last page of the input range (V-1)", () => {
    const table = make();
    const last = (1n << 48n) - 0x1000n;
    expect(table.map(last, 0x8000_0000, 0x1000, 1, RW)).toBe(0x1000);
    expect(table.iovaToPhys(last + 0xfffn)).toBe(0x8000_0fff);
    expect(table.unmap(last, 0x1000, 1, newGather())).toBe(0x1000);
  });

  it("answers with a block's stray address bits and the offset, both, as Linux does", () => {
    const table = make();
    table.map(0n, 0x8000_5000, 0x20_0000, 1, RW);
    expect(table.iovaToPhys(0x1234n)).toBe(0x8000_5234);
    expect(table.iovaToPhys(0x2234n)).toBe(0x8000_7234);
  });

  it("folds address bits 51:48 into bits 15:12 with 64 KiB granules (52-bit addresses)", () => {
    const table = make({ pgsizeBitmap: 0x2001_0000n, oas: 52 });
    table.map(0n, 0xf_1234_0000_0000, 0x1_0000, 1, RW);
    expect(table.iovaToPhys(0x1234n)).toBe(0xf_1234_0000_1234);
  });

  it("marks table descriptors of a non-coherent walker as written back", () => {
    const table = make({ coherentWalk: false });
    table.map(0n, 0x8000_0000, 0x1000, 1, RW);
    expect(memory.load64(table.root) >> 55n).toBe(1n);
  });

  it("leaves nothing behind when it is freed", () => {
    const table = make();
    for (let i = 0n; i < 64n; i++) table.map(i << 30n, 0x8000_0000, 0x1000, 4, RW);
    table.free();
    expect([...pool.live]).toEqual([]);
  });
});

describe("page table geometry (DDI0487 D8.2)", () => {
  it("prefers the CPU's page size, then smaller ones", () => {
    expect(pageTableGeometry({ ...BASE, pgsizeBitmap: 0x6221_5000n }).pgsizeBitmap).toBe(0x4020_1000n);
    expect(pageTableGeometry({ ...BASE, pgsizeBitmap: 0x2201_4000n }).granule).toBe(0x4000);
  });

  it("concatenates stage-2 tables where the start level would not exist (R_SRKBC)", () => {
    const geometry = pageTableGeometry({ ...BASE, format: "ARM_64_LPAE_S2", ias: 40, oas: 40 });
    expect([geometry.startLevel, geometry.pgdBits]).toEqual([1, 10]);
    expect(stageTwoControl(geometry).sl).toBe(1);
  });

  it("refuses a quirk that the format does not have", () => {
    expect(code(() => pageTableGeometry({ ...BASE, quirks: PageTableQuirk.ARM_S2FWB }))).toBe("EINVAL");
  });
});
