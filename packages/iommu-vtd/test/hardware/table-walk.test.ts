import { Access, NO_PASID, TranslationStatus } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { everything, qemu11Q35, type VtdPreset } from "../../src/presets.js";
import { IOTLB_INVALIDATE, PASID_CACHE_INVALIDATE } from "../../src/spec/invalidation.js";
import { PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { Bench, PASIDS, RAM, RID } from "./bench.js";

const { READ, WRITE, EXEC, PRIV, ZERO_LENGTH } = Access;
const { OK, FAULT } = TranslationStatus;
const PASID = 5;
const PAGE = RAM + 0x80_0000;
const NOWHERE = 0x7_0000_0000n;
const P = 1n;
const RW = 2n;
const US = 4n;
const A = 0x20n;
const D = 0x40n;
const PS = 0x80n;
const LINK = P | RW | US;

describe("first-stage translation", () => {
  let bench: Bench;
  let root: number;
  function setUp(entry: Record<string, unknown> = {}, preset: VtdPreset = everything) {
    bench = new Bench(preset);
    root = bench.table();
    bench.scalable({ [PASID]: { PGTT: "firstStage", FSPTPTR: root, ...entry } });
  }
  beforeEach(() => setUp());
  const flush = () =>
    bench.submit(
      PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "global" }),
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }),
    );
  function expectFault(address: bigint, access: number, reason: number) {
    const status = bench.translate(address, access, PASID);
    expect([status, bench.takeReason()]).toEqual([FAULT, reason]);
  }

  it.each([
    ["4 KiB", 1, 0x7f12_3456_7abcn, 12, 0xabc],
    ["2 MiB", 2, 0x7f12_3456_7abcn, 21, 0x16_7abc],
    ["1 GiB", 3, 0x7f12_3456_7abcn, 30, 0x1456_7abc + 0x2000_0000],
  ])("maps a page of %s (H9)", (_, level, address, shift, offset) => {
    const base = level === 3 ? 0x1_4000_0000 : PAGE;
    bench.map(root, 4, address, BigInt(base) | LINK | (level > 1 ? PS : 0n), LINK, level);
    expect(bench.translate(address, READ, PASID)).toBe(OK);
    expect([bench.pa, bench.out.shift]).toEqual([base + offset, shift]);
    expect(bench.out.perms & (READ | WRITE)).toBe(READ | WRITE);
  });

  it("maps the upper, negative half and refuses what is not canonical (SGN.1)", () => {
    bench.map(root, 4, 0xffff_8000_0000_0000n, BigInt(PAGE) | LINK, LINK);
    expect(bench.translate(0xffff_8000_0000_0000n, READ, PASID)).toBe(OK);
    for (const address of [0x8000_0000_0000n, 0xffff_7fff_ffff_f000n, 0x7fff_8000_0000_0000n])
      expectFault(address, READ, 0x80);
  });

  it("walks five levels with FSPM = 1 (H9)", () => {
    setUp({ FSPM: "fiveLevel" });
    const address = 0xab_cdef_0123_4000n;
    bench.map(root, 5, address, BigInt(PAGE) | LINK, LINK);
    expect(bench.translate(address, READ, PASID)).toBe(OK);
    expect(bench.pa).toBe(PAGE);
    expectFault(0x100_0000_0000_0000n, READ, 0x80);
    expect(bench.translate(0xff00_0000_0000_0000n, READ, PASID)).toBe(FAULT);
    expect(bench.takeReason()).toBe(0x71);
  });

  it("faults where a table is not in memory (SFS.1, SFS.4)", () => {
    bench.store(root, NOWHERE | LINK);
    expectFault(0x1000n, READ, 0x70);
    setUp({ FSPTPTR: NOWHERE });
    expectFault(0x1000n, READ, 0x73);
  });

  it.each([4, 3, 2, 1])("faults on a not-present and on a reserved entry at level %i (SFS.2, SFS.3)", (level) => {
    const at = bench.map(root, 4, 0x1000n, 0n, LINK, level);
    expectFault(0x1000n, READ, 0x71);
    const preset = new Bench({ ...everything, hostAddressWidth: 48 });
    bench = preset;
    root = bench.table();
    bench.scalable({ [PASID]: { PGTT: "firstStage", FSPTPTR: root } });
    const entry = bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK | (1n << 50n), LINK, level);
    expectFault(0x1000n, READ, 0x72);
    expect([at, bench.load(entry) & A]).toEqual([at, 0n]);
  });

  it("reserves PS above level 3, PS of 1 GiB without FS1GP, and address bits below a large page (3.6)", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK | PS, LINK, 4);
    expectFault(0x1000n, READ, 0x72);
    bench.map(root, 4, 0x80_0000_0000n, BigInt(PAGE) | LINK | PS | 0x2000n, LINK, 2);
    expectFault(0x80_0000_0000n, READ, 0x72);
    bench.map(root, 4, 0x100_0000_0000n, BigInt(PAGE) | LINK | PS | 0x1000n, LINK, 2);
    expect(bench.translate(0x100_0000_0000n, READ, PASID)).toBe(OK);
    expect(bench.pa).toBe(PAGE);
    setUp({}, { ...everything, cap: everything.cap & ~(1n << 56n) });
    bench.map(root, 4, 0x1000n, 0x1_4000_0000n | LINK | PS, LINK, 3);
    expectFault(0x1000n, READ, 0x72);
  });

  it("ANDs R/W and U/S over the levels (SGN.2, SGN.6)", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK, P | US);
    expect(bench.translate(0x1000n, READ, PASID)).toBe(OK);
    expectFault(0x1000n, WRITE, 0x85);
    bench.map(root, 4, 0x80_0000_0000n, BigInt(PAGE) | LINK, P | RW);
    expectFault(0x80_0000_0000n, READ, 0x81);
    expectFault(0x80_0000_0000n, WRITE, 0x81);
  });

  it("lets supervisors use supervisor pages, and read-only ones unless WPE (3.6.1)", () => {
    setUp({ SRE: 1 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | P, P);
    expect(bench.translate(0x1000n, READ | PRIV, PASID)).toBe(OK);
    expect(bench.translate(0x1000n, WRITE | PRIV, PASID)).toBe(OK);
    setUp({ SRE: 1, WPE: 1 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | P, P);
    expectFault(0x1000n, WRITE | PRIV, 0x85);
    expectFault(0x1000n, READ, 0x81);
  });

  it("honours XD with NXE, and SMEP (SGN.3)", () => {
    setUp({ ERE: 1, NXE: 1, SRE: 1, SMEP: 1 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK, LINK);
    bench.map(root, 4, 0x2000n, BigInt(PAGE) | LINK | (1n << 63n), LINK);
    expect(bench.translate(0x1000n, READ | EXEC, PASID)).toBe(OK);
    expectFault(0x2000n, READ | EXEC, 0x82);
    expectFault(0x1000n, READ | EXEC | PRIV, 0x82);
    setUp({ ERE: 1 });
    bench.map(root, 4, 0x2000n, BigInt(PAGE) | LINK | (1n << 63n), LINK);
    expect(bench.translate(0x2000n, READ | EXEC, PASID)).toBe(OK);
  });

  it("marks every level accessed and a written leaf dirty (3.6.2)", () => {
    const leaf = bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK, LINK);
    bench.translate(0x1000n, READ, PASID);
    expect([bench.load(root) & (A | D), bench.load(leaf)]).toEqual([A, BigInt(PAGE) | LINK | A]);
    bench.translate(0x1000n, WRITE, PASID);
    expect(bench.load(leaf)).toBe(BigInt(PAGE) | LINK | A | D);
    // Cached as dirty: cleared bits stay clear until an invalidation.
    bench.store(leaf, BigInt(PAGE) | LINK | A);
    bench.translate(0x1000n, WRITE, PASID);
    expect(bench.load(leaf) & D).toBe(0n);
    flush();
    bench.translate(0x1000n, WRITE, PASID);
    expect(bench.load(leaf) & D).toBe(D);
  });

  it("marks nothing at the leaf for an access that is refused", () => {
    const leaf = bench.map(root, 4, 0x1000n, BigInt(PAGE) | P | US, LINK);
    expectFault(0x1000n, WRITE, 0x85);
    expect(bench.load(leaf)).toBe(BigInt(PAGE) | P | US);
  });

  it("sets the extended accessed bit with EAFE (H9)", () => {
    setUp({ EAFE: 1 });
    const leaf = bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK | A, LINK | A);
    bench.translate(0x1000n, READ, PASID);
    expect([bench.load(root) & 0x400n, bench.load(leaf) & 0x400n]).toEqual([0x400n, 0x400n]);
  });

  it("faults when a bit must be set and walks are not snooped (SFS.9)", () => {
    setUp({ PWSNP: 0 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK, LINK);
    expectFault(0x1000n, READ, 0x90);
    bench.map(root, 4, 0x80_0000_0000n, BigInt(PAGE) | LINK | A | D, LINK | A);
    expect(bench.translate(0x80_0000_0000n, WRITE, PASID)).toBe(OK);
  });

  it("re-reads an entry that changes while a bit is set, and gives up on one that keeps changing (SFS.10)", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK, LINK);
    const original = bench.memory.compareExchange64.bind(bench.memory);
    let refusals = 1;
    bench.memory.compareExchange64 = (...args) => (refusals-- > 0 ? false : original(...args));
    expect(bench.translate(0x1000n, READ, PASID)).toBe(OK);
    flush();
    bench.map(root, 4, 0x2000n, BigInt(PAGE) | LINK, LINK);
    refusals = 100;
    expectFault(0x2000n, READ, 0x91);
  });

  it("refuses an output in the interrupt range (SGN.8)", () => {
    bench.map(root, 4, 0x1000n, 0xfee0_1000n | LINK | A, LINK);
    expectFault(0x1000n, READ, 0x87);
  });

  it("translates an input in the interrupt range when it has a PASID (H11)", () => {
    bench.map(root, 4, 0xfee0_0000n, BigInt(PAGE) | LINK, LINK);
    expect(bench.translate(0xfee0_0000n, WRITE | Access.MSI, PASID)).toBe(OK);
    expect(bench.pa).toBe(PAGE);
  });

  it("uses a cached intermediate entry until an invalidation without hint (6.2.5)", () => {
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | LINK, LINK);
    bench.map(root, 4, 0x2000n, BigInt(PAGE) | LINK, LINK);
    bench.translate(0x1000n, READ, PASID);
    bench.store(root, 0n);
    expect(bench.translate(0x2000n, READ, PASID)).toBe(OK);
    flush();
    expectFault(0x2000n, READ, 0x71);
  });
});

describe("second-stage translation", () => {
  const R = 1n;
  const W = 2n;
  let bench: Bench;
  let root: number;
  function scalable(entry: Record<string, unknown> = {}, preset: VtdPreset = everything) {
    bench = new Bench(preset);
    root = bench.table();
    bench.scalable({ 0: { PGTT: "secondStage", AW: 2, SSPTPTR: root, ...entry } });
  }
  function legacy(context: Record<string, unknown> = {}, preset: VtdPreset = qemu11Q35) {
    bench = new Bench(preset);
    root = bench.table();
    bench.legacy({ SSPTPTR: root, ...context });
  }
  function expectFault(address: bigint, access: number, reason: number) {
    const status = bench.translate(address, access);
    expect([status, bench.takeReason()]).toEqual([FAULT, reason]);
  }

  it.each([
    [1, 3],
    [2, 4],
    [3, 5],
  ])("walks AW %i in %i levels (H10)", (aw, levels) => {
    scalable({ AW: aw });
    const address = (1n << BigInt(12 + 9 * levels)) - 0x1000n;
    bench.map(root, levels, address, BigInt(PAGE) | R | W, R | W);
    expect(bench.translate(address + 0x123n, WRITE)).toBe(OK);
    expect(bench.pa).toBe(PAGE + 0x123);
    if (levels < 5) expectFault(address + 0x1000n, READ, 0x84);
  });

  it.each([
    [2, 21],
    [3, 30],
  ])("maps a large page at level %i (H10)", (level, shift) => {
    legacy();
    bench.map(root, 4, 0x4000_0000n, 0x4000_0000n | R | W | PS, R | W, level);
    expect(bench.translate(0x4001_2345n, READ)).toBe(OK);
    expect([bench.pa, bench.out.shift]).toEqual([0x4001_2345, shift]);
  });

  it("executes what can be read, and with SSEE what X permits at every level (9.6, 9.8)", () => {
    const X = 4n;
    const executes = (SSEE: number, link: bigint, leaf: bigint) => {
      bench = new Bench(everything);
      root = bench.table();
      const entry = { PGTT: "secondStage", AW: 2, SSPTPTR: root, ERE: 1, SSEE };
      bench.scalable({ 0: { PGTT: "passThrough" }, [PASID]: entry });
      bench.map(root, 4, 0x1000n, BigInt(PAGE) | leaf, link);
      const status = bench.translate(0x1000n, READ | EXEC, PASID);
      return status === OK ? "yes" : bench.takeReason();
    };
    expect([executes(0, R | W, R), executes(0, R | W, W | X)]).toEqual(["yes", 0x86]);
    expect([executes(1, R | W | X, R | X), executes(1, R | W | X, R), executes(1, R | W, R | X)]).toEqual([
      "yes",
      0x82,
      0x82,
    ]);
    // An entry that permits nothing but execution is present: what is missing is the permission to read.
    expect([executes(0, R | W | X, X), executes(1, R | W | X, X)]).toEqual([0x79, 0x86]);
  });

  it("limits the input by MGAW and by AW (LGN.1, SGN.5)", () => {
    legacy();
    expectFault(1n << 48n, READ, 0x04);
    legacy({ AW: 1 });
    expectFault(1n << 39n, READ, 0x04);
  });

  it("reports the missing permission in legacy mode, whatever the entry lacks (LGN.2, LGN.3)", () => {
    legacy();
    expectFault(0x1000n, READ, 0x06);
    expectFault(0x1000n, WRITE, 0x05);
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | R, R | W);
    expectFault(0x1000n, WRITE, 0x05);
    expectFault(0x1000n, READ | WRITE, 0x05);
    expect(bench.translate(0x1000n, READ)).toBe(OK);
    bench.map(root, 4, 0x80_0000_0000n, BigInt(PAGE) | R | W, W);
    expectFault(0x80_0000_0000n, READ, 0x06);
  });

  it("tells nothing permitted from too little permitted in scalable mode (SSS.2, SGN.6, SGN.7)", () => {
    scalable();
    expectFault(0x1000n, READ, 0x79);
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | R, R | W);
    expectFault(0x1000n, WRITE, 0x85);
    bench.map(root, 4, 0x2000n, BigInt(PAGE) | W, R | W);
    expectFault(0x2000n, READ, 0x86);
    bench.map(root, 4, 0x80_0000_0000n, BigInt(PAGE) | W, R);
    expectFault(0x80_0000_0000n, READ, 0x79);
  });

  it("lets zero-length reads of write-only pages through with ZLR (3.14)", () => {
    legacy({}, { ...qemu11Q35, cap: qemu11Q35.cap | (1n << 22n) });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | W, R | W);
    expectFault(0x1000n, READ, 0x06);
    expect(bench.translate(0x1000n, READ | ZERO_LENGTH)).toBe(OK);
    legacy();
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | W, R | W);
    expectFault(0x1000n, READ | ZERO_LENGTH, 0x06);
  });

  it("faults where a table is not in memory (LCT.4.3, LSS.1, SSS.1, SSS.4)", () => {
    legacy({ SSPTPTR: NOWHERE });
    expectFault(0x1000n, READ, 0x03);
    legacy();
    bench.store(root, NOWHERE | R);
    expectFault(0x1000n, READ, 0x07);
    scalable({ SSPTPTR: NOWHERE });
    expectFault(0x1000n, READ, 0x7b);
    scalable();
    bench.store(root, NOWHERE | R);
    expectFault(0x1000n, READ, 0x78);
  });

  it.each([
    ["an address above the host's width", 1, 1n << 48n],
    ["bit 62", 1, 1n << 62n],
    ["SNP without snoop control", 1, 0x800n],
    ["SNP above the leaf", 2, 0x800n],
    ["PS at level 4", 4, PS],
    ["address bits below a large page", 2, PS | 0x1000n],
  ])("reserves %s (LSS.2, SSS.3)", (_, level, bits) => {
    legacy();
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | R | W | bits, R | W, level);
    expectFault(0x1000n, READ, 0x0c);
  });

  it("ignores reserved bits of an entry that permits nothing (3.7)", () => {
    legacy();
    bench.map(root, 4, 0x1000n, 0x800n, R | W);
    expectFault(0x1000n, READ, 0x06);
  });

  it("reserves large pages that CAP.SSLPS does not offer (SSS.3)", () => {
    scalable({}, { ...everything, cap: everything.cap & ~(0xfn << 34n) });
    bench.map(root, 4, 0x1000n, 0x1_4000_0000n | R | W | PS, R | W, 3);
    expectFault(0x1000n, READ, 0x7a);
    bench.map(root, 4, 0x80_0000_0000n, BigInt(PAGE) | R | W | PS, R | W, 2);
    expectFault(0x80_0000_0000n, READ, 0x7a);
  });

  it("marks accessed and dirty with SSADE (3.7.2)", () => {
    scalable({ SSADE: 1 });
    const leaf = bench.map(root, 4, 0x1000n, BigInt(PAGE) | R | W, R | W);
    bench.translate(0x1000n, READ);
    expect([bench.load(root) & 0x300n, bench.load(leaf) & 0x300n]).toEqual([0x100n, 0x100n]);
    bench.translate(0x1000n, WRITE);
    expect(bench.load(leaf) & 0x300n).toBe(0x300n);
  });

  it("marks nothing without SSADE, and faults where marking is not snooped (SSS.5)", () => {
    scalable();
    const leaf = bench.map(root, 4, 0x1000n, BigInt(PAGE) | R | W, R | W);
    bench.translate(0x1000n, WRITE);
    expect(bench.load(leaf) & 0x300n).toBe(0n);
    scalable({ SSADE: 1, PWSNP: 0 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | R | W, R | W);
    expectFault(0x1000n, READ, 0x7c);
  });

  it("gives up on an entry that keeps changing (SSS.6)", () => {
    scalable({ SSADE: 1 });
    bench.map(root, 4, 0x1000n, BigInt(PAGE) | R | W, R | W);
    bench.memory.compareExchange64 = () => false;
    expectFault(0x1000n, READ, 0x7d);
  });

  it("refuses an output in the interrupt range (LGN.4)", () => {
    legacy();
    bench.map(root, 4, 0x1000n, 0xfee0_0000n | R | W, R | W);
    expectFault(0x1000n, READ, 0x0e);
  });

  it("caches faulted translations with caching mode only (6.2.4.1)", () => {
    for (const [cm, status] of [
      [0n, OK],
      [0x80n, FAULT],
    ] as const) {
      legacy({}, { ...qemu11Q35, cap: qemu11Q35.cap | cm });
      bench.enableQueue(false);
      const leaf = bench.map(root, 4, 0x1000n, 0n, R | W);
      expectFault(0x1000n, READ, 0x06);
      bench.store(leaf, BigInt(PAGE) | R | W);
      expect(bench.translate(0x1000n, READ)).toBe(status);
      bench.clearFault();
      bench.submit(IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 7, ADDR: 0x1000n }));
      expect(bench.translate(0x1000n, READ)).toBe(OK);
    }
  });

  it("caches reserved-bit faults as well with caching mode", () => {
    legacy({}, { ...qemu11Q35, cap: qemu11Q35.cap | 0x80n });
    const leaf = bench.map(root, 4, 0x1000n, BigInt(PAGE) | R | W | 0x800n, R | W);
    expectFault(0x1000n, READ, 0x0c);
    bench.store(leaf, BigInt(PAGE) | R | W);
    expectFault(0x1000n, READ, 0x0c);
  });
});

describe("nested translation", () => {
  let bench: Bench;
  let fs: number;
  let ss: number;
  /** Guest pages: their host page is GUEST + address. */
  const GUEST = BigInt(RAM + 0x40_0000);
  const FS_ROOT = 0x10_0000n;
  const VA = 0x7f00_0000_1000n;
  const GPA = 0x18_0000n;
  function setUp(entry: Record<string, unknown> = {}) {
    bench = new Bench(everything);
    ss = bench.table();
    for (let page = 0n; page < 0x20_0000n; page += 0x1000n) bench.map(ss, 3, page, (GUEST + page) | 3n, 3n);
    bench.scalable({ [PASID]: { PGTT: "nested", AW: 1, SSPTPTR: ss, FSPTPTR: FS_ROOT, DID: 4, ...entry } });
    fs = Number(GUEST + FS_ROOT);
    const tables = [FS_ROOT, 0x10_1000n, 0x10_2000n, 0x10_3000n];
    for (let i = 0; i < 3; i++) bench.store(Number(GUEST + tables[i]) + index(4 - i), tables[i + 1] | LINK);
    bench.store(leafAt(), GPA | LINK);
  }
  const index = (level: number) => Number((VA >> BigInt(3 + 9 * level)) & 0x1ffn) * 8;
  const leafAt = () => Number(GUEST) + 0x10_3000 + index(1);
  const ssEntry = (gpa: bigint) => bench.map(ss, 3, gpa, 0n, 3n);
  function expectFault(access: number, reason: number, address = VA) {
    const status = bench.translate(address, access, PASID);
    expect([status, bench.takeReason()]).toEqual([FAULT, reason]);
  }
  beforeEach(() => setUp());

  it("translates tables and page through the second stage (3.8)", () => {
    expect(bench.translate(VA + 0x55n, WRITE, PASID)).toBe(OK);
    expect(bench.pa).toBe(Number(GUEST + GPA) + 0x55);
    expect([bench.load(fs + index(4)) & A, bench.load(leafAt()) & (A | D)]).toEqual([A, A | D]);
  });

  it("takes the smaller page of both stages", () => {
    bench.store(Number(GUEST) + 0x10_2000 + index(2), (0x20_0000n * 0n) | LINK | PS);
    expect(bench.translate(VA, READ, PASID)).toBe(OK);
    expect([bench.out.shift, bench.pa]).toEqual([12, Number(GUEST) + 0x1000]);
  });

  it("faults where a first-stage table cannot be read (SFS.6, SFS.7, SSS.2)", () => {
    bench.store(ssEntry(FS_ROOT), (GUEST + FS_ROOT) | 2n);
    expectFault(READ, 0x75);
    setUp();
    bench.store(ssEntry(0x10_2000n), (GUEST + 0x10_2000n) | 2n);
    expectFault(READ, 0x76);
    setUp();
    bench.store(ssEntry(0x10_2000n), 0n);
    expectFault(READ, 0x79);
  });

  it("faults where an accessed bit cannot be written (SFS.8)", () => {
    bench.store(ssEntry(0x10_3000n), (GUEST + 0x10_3000n) | 1n);
    expectFault(READ, 0x77);
    bench.store(leafAt(), GPA | LINK | A);
    expect(bench.translate(VA, READ, PASID)).toBe(OK);
  });

  it("faults where an entry leads beyond the second stage (SFS.5)", () => {
    bench.store(leafAt(), (1n << 40n) | LINK);
    expectFault(READ, 0x74);
  });

  it("combines the permissions of both stages (3.8.1)", () => {
    bench.store(ssEntry(GPA), (GUEST + GPA) | 1n);
    expect(bench.translate(VA, READ, PASID)).toBe(OK);
    expectFault(WRITE, 0x85);
    setUp();
    bench.store(ssEntry(GPA), (GUEST + GPA) | 2n);
    expectFault(READ, 0x86);
    setUp();
    bench.store(leafAt(), GPA | P | US);
    expectFault(WRITE, 0x85);
  });

  it("executes where the second stage lets it, with SSEE (9.6)", () => {
    setUp({ ERE: 1 });
    expect(bench.translate(VA, READ | EXEC, PASID)).toBe(OK);
    setUp({ ERE: 1, SSEE: 1 });
    expectFault(READ | EXEC, 0x82);
    expect(bench.translate(VA, READ, PASID)).toBe(OK);
  });

  it("counts reads of first-stage tables as writes with SSADE (3.8.1)", () => {
    setUp({ SSADE: 1 });
    expect(bench.translate(VA, READ, PASID)).toBe(OK);
    const table = bench.load(ss + 0) & 0xf_ffff_ffff_f000n;
    expect(table).not.toBe(0n);
    const entry = bench.load(Number(bench.load(Number(table)) & 0xf_ffff_ffff_f000n) + 0x100 * 8);
    expect(entry & 0x300n).toBe(0x300n);
  });

  it("marks the page that a zero-length read flushes, though it cannot be read (3.14, 3.7.2)", () => {
    setUp({ SSADE: 1 });
    const page = ssEntry(GPA);
    bench.store(page, (GUEST + GPA) | 2n);
    expect(bench.translate(VA, READ | ZERO_LENGTH, PASID)).toBe(OK);
    expect(bench.load(page) & 0x300n).toBe(0x100n);
    expectFault(READ, 0x86);
  });

  it("walks again after a domain invalidation, and after a PASID one (tables 23, 24)", () => {
    bench.translate(VA, READ, PASID);
    bench.store(ssEntry(GPA), 0n);
    expect(bench.translate(VA, READ, PASID)).toBe(OK);
    bench.submit(IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "page", DID: 4, ADDR: GPA }));
    expectFault(READ, 0x79);
  });
});

describe("pass-through", () => {
  it("limits the address by the host's width (LGN.1.3, SGN.4.2)", () => {
    const legacy = new Bench(qemu11Q35);
    legacy.legacy({ TT: "passThrough" });
    expect(legacy.translate(1n << 48n, READ)).toBe(FAULT);
    expect(legacy.takeReason()).toBe(0x04);
    const modern = new Bench(everything);
    modern.scalable({ 0: { PGTT: "passThrough" } });
    expect(modern.translate(1n << 52n, READ)).toBe(FAULT);
    expect(modern.takeReason()).toBe(0x83);
    expect(modern.translate((1n << 52n) - 1n, READ)).toBe(OK);
  });

  it("never reaches the interrupt range (3.15)", () => {
    const bench = new Bench(everything);
    bench.scalable({ [PASID]: { PGTT: "passThrough" } });
    bench.put(PASIDS, PASID_ENTRY, { P: 1, PGTT: "passThrough" });
    expect(bench.translate(0xfee0_0000n, WRITE, PASID, RID)).toBe(FAULT);
    expect(bench.takeReason()).toBe(0x87);
    expect(bench.translate(0xfec0_0000n, WRITE, NO_PASID)).toBe(OK);
    expect([bench.out.shift, bench.pa]).toEqual([21, 0xfec0_0000]);
    expect(bench.translate(0xfef0_0000n, WRITE, NO_PASID)).toBe(OK);
    expect(bench.out.shift).toBe(12);
  });
});
