import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { interruptIndex } from "../../src/hardware/interrupt-remapping.js";
import { everything, qemu11Q35, type VtdPreset } from "../../src/presets.js";
import { INTERRUPT_ADDRESS, INTERRUPT_DATA, IRTE } from "../../src/spec/interrupt-remapping.js";
import { INTERRUPT_ENTRY_CACHE_INVALIDATE } from "../../src/spec/invalidation.js";
import { IRTA } from "../../src/spec/registers.js";
import { Bench, RAM, RID, withCap, withEcap } from "./bench.js";

const TABLE = RAM + 0x9000;
/** Remappable format, handle n. */
const address = (handle: number, subhandle = false) =>
  INTERRUPT_ADDRESS.encode({
    FEE: 0xfee,
    FORMAT: "remappable",
    SHV: subhandle,
    HANDLE: handle & 0x7fff,
    HANDLE15: handle >> 15,
  })[0] >>> 0;
const { INTERRUPT, FAULT, OK, ABORTED } = TranslationStatus;

function setUp({
  size = 3,
  extended = false,
  table = TABLE,
  preset = everything,
}: {
  size?: number;
  extended?: boolean;
  table?: number;
  preset?: VtdPreset;
} = {}): Bench {
  const bench = new Bench(preset);
  bench.set(IRTA, { IRTA: table, EIME: extended, S: size });
  bench.command("SIRTP");
  bench.command("IRE");
  return bench;
}
const irte = (bench: Bench, index: number, values: object) => bench.put(TABLE + index * 16, IRTE, { P: 1, ...values });

describe("interrupt requests (5.1)", () => {
  it("pass unchanged while remapping is off", () => {
    const bench = new Bench(everything);
    expect(bench.chip.interrupt(RID, 0xfee0_1004, 0x4041)).toBe(INTERRUPT);
    expect(bench.messages).toEqual([{ address: 0xfee0_1004, data: 0x4041 }]);
  });

  it("are blocked while remapping is off where it is required (2Bh)", () => {
    const bench = new Bench(withEcap(everything, { IRREQ: 1 }));
    bench.command("TE");
    expect([bench.chip.interrupt(RID, 0xfee0_0000, 0), bench.takeReason()]).toEqual([FAULT, 0x2b]);
  });

  it("become the message of their entry", () => {
    const bench = setUp();
    irte(bench, 2, { V: 0x31, DST: 0x0500, DLM: 1, TM: 1, RH: 1, DM: 1 });
    expect(bench.chip.interrupt(RID, address(2), 0)).toBe(INTERRUPT);
    expect(bench.messages).toEqual([{ address: 0xfee0_500c, data: 0xc131 }]);
  });

  it("reach 32-bit APIC ids in extended mode", () => {
    const bench = setUp({ extended: true });
    irte(bench, 0, { V: 0x50, DST: 300 });
    bench.chip.interrupt(RID, address(0), 0);
    expect([bench.chip.interrupts.last.destination, bench.messages[0]]).toEqual([
      300,
      { address: 0x100_fee2_c000, data: 0x4050 },
    ]);
  });

  it("compute the index from handle and subhandle (5.1.3)", () => {
    expect([
      interruptIndex(address(7), 9),
      interruptIndex(address(7, true), INTERRUPT_DATA.encode({ SUBHANDLE: 9 })[0]),
      interruptIndex(0xfee0_0014, 0),
      address(0x8000),
    ]).toEqual([7, 16, 0x8000, 0xfee0_0014]);
  });

  it.each([
    ["reserved data bits", 0x20, address(0, true), 0x1_0000, {}],
    ["an index outside of the table", 0x21, address(16), 0, {}],
    ["an entry that is not present", 0x22, address(0), 0, { P: 0 }],
    ["reserved bits of the entry", 0x24, address(0), 0, { R0: 1 }],
    ["a 32-bit APIC id without extended mode", 0x24, address(0), 0, { DST: 0x1_0000 }],
    ["a posted entry", 0x24, address(0), 0, { IM: 1 }],
    ["a source validation that does not exist", 0x24, address(0), 0, { SVT: 3 }],
    ["a compatibility format request", 0x25, 0xfee0_0000, 0, {}],
    ["another source and reserved bits: the source is verified first (5.1.4)", 0x26, address(0), 0, { SVT: 1, R0: 1 }],
    ["another source", 0x26, address(0), 0, { SVT: 1, SID: RID ^ 1 }],
    ["a source on another bus", 0x26, address(0), 0, { SVT: 2, SID: 0x0203 }],
  ])("are blocked for %s (table 15)", (_, reason, at, data, values) => {
    const bench = setUp();
    irte(bench, 0, values);
    expect([bench.chip.interrupt(RID, at, data), bench.fault().FR]).toEqual([FAULT, reason]);
    expect(bench.messages).toEqual([]);
  });

  it("record the index that was computed (H16)", () => {
    const bench = setUp();
    bench.chip.interrupt(RID, address(16), 0);
    expect(bench.fault()).toMatchObject({ FR: 0x21, FI: 16n << 48n });
  });

  it("are blocked when the table is nowhere (23h)", () => {
    const bench = setUp({ table: 0x7_0000_0000 });
    expect([bench.chip.interrupt(RID, address(0), 0), bench.fault().FR]).toEqual([FAULT, 0x23]);
  });

  it("are blocked for an entry above the host's width as for an index outside of the table (21h)", () => {
    const bench = setUp({ table: 0x10_0000_0000_0000 });
    expect([bench.chip.interrupt(RID, address(3), 0), bench.fault()]).toMatchObject([
      FAULT,
      { FR: 0x21, FI: 3n << 48n },
    ]);
  });

  it("are not recorded for entries with FPD", () => {
    const bench = setUp();
    irte(bench, 0, { P: 0, FPD: 1 });
    expect([bench.chip.interrupt(RID, address(0), 0), bench.status.PPF]).toEqual([FAULT, false]);
  });

  it("verify the source under SQ, or by a range of buses (9.9)", () => {
    const bench = setUp();
    irte(bench, 0, { SVT: 1, SQ: 3, SID: RID ^ 7 });
    irte(bench, 1, { SVT: 2, SID: 0x0001 });
    expect([bench.chip.interrupt(RID, address(0), 0), bench.chip.interrupt(RID, address(1), 0)]).toEqual([
      INTERRUPT,
      INTERRUPT,
    ]);
  });

  it("in compatibility format pass with CFI, but never in extended mode", () => {
    const bench = setUp();
    bench.command("CFI");
    expect(bench.chip.interrupt(RID, 0xfee0_0000, 1)).toBe(INTERRUPT);
    const extended = setUp({ extended: true });
    extended.command("CFI");
    expect(extended.chip.interrupt(RID, 0xfee0_0000, 1)).toBe(FAULT);
  });

  it("are blocked without extended mode where that is required (2Ah)", () => {
    const bench = setUp({ preset: withEcap(everything, { EIMER: 1 }) });
    expect([bench.chip.interrupt(RID, address(0), 0), bench.fault().FR]).toEqual([FAULT, 0x2a]);
  });
});

describe("interrupt entry cache (6.4)", () => {
  it("keeps no entry that blocked its request, but with caching mode (CM)", () => {
    for (const [preset, then] of [
      [everything, INTERRUPT],
      [withCap(everything, { CM: 1 }), FAULT],
    ] as const) {
      for (const values of [{ P: 0 }, { R0: 1 }, { SVT: 1, SID: RID ^ 1 }]) {
        const bench = setUp({ preset });
        irte(bench, 0, values);
        expect(bench.chip.interrupt(RID, address(0), 0)).toBe(FAULT);
        irte(bench, 0, {});
        expect(bench.chip.interrupt(RID, address(0), 0)).toBe(then);
      }
    }
  });

  it("keeps an entry until its invalidation, by index and mask", () => {
    const bench = setUp();
    bench.enableQueue(false);
    irte(bench, 4, { V: 0x31 });
    const vector = () => {
      bench.chip.interrupt(RID, address(4), 0);
      return (bench.messages.at(-1)?.data ?? 0) & 0xff;
    };
    expect(vector()).toBe(0x31);
    irte(bench, 4, { V: 0x32 });
    bench.submit(INTERRUPT_ENTRY_CACHE_INVALIDATE.encode({ TYPE: "interruptEntryCache", G: "index", IIDX: 0, IM: 2 }));
    expect(vector()).toBe(0x31);
    bench.submit(INTERRUPT_ENTRY_CACHE_INVALIDATE.encode({ TYPE: "interruptEntryCache", G: "index", IIDX: 6, IM: 2 }));
    expect(vector()).toBe(0x32);
    irte(bench, 4, { V: 0x33 });
    bench.submit(INTERRUPT_ENTRY_CACHE_INVALIDATE.encode({ TYPE: "interruptEntryCache", G: "global" }));
    expect(vector()).toBe(0x33);
  });

  it("goes with Set Interrupt Remap Table Pointer and with IRE = 0 where CAP.ESIRTPS says so", () => {
    const ways = [
      (bench: Bench) => bench.command("SIRTP"),
      (bench: Bench) => {
        bench.command("IRE", false);
        bench.command("IRE");
      },
    ];
    const vectors = (preset: VtdPreset) =>
      ways.map((way) => {
        const bench = setUp({ preset });
        irte(bench, 0, { V: 0x31 });
        bench.chip.interrupt(RID, address(0), 0);
        irte(bench, 0, { V: 0x32 });
        way(bench);
        bench.chip.interrupt(RID, address(0), 0);
        return (bench.messages.at(-1)?.data ?? 0) & 0xff;
      });
    expect([vectors(everything), vectors(withCap(everything, { ESIRTPS: 0 }))]).toEqual([
      [0x32, 0x32],
      [0x31, 0x31],
    ]);
  });
});

describe("the interrupt address range (3.15)", () => {
  it("is no different for requests with PASID while translation is off: the PASID is ignored (3.1)", () => {
    const bench = new Bench(everything);
    expect(bench.translate(0xfee0_0000n, Access.WRITE | Access.MSI, 5)).toBe(INTERRUPT);
    bench.scalable({ 5: { PGTT: "passThrough" } });
    expect([bench.translate(0xfee0_0000n, Access.WRITE | Access.MSI, 5), bench.takeReason()]).toEqual([FAULT, 0x87]);
  });

  it("takes 4-byte writes as interrupts and zero-length reads as done", () => {
    const bench = new Bench(qemu11Q35);
    bench.legacy({ TT: "passThrough" });
    expect(bench.translate(0xfee0_0000n, Access.WRITE | Access.MSI)).toBe(INTERRUPT);
    expect(bench.translate(0xfee0_0000n, Access.READ | Access.ZERO_LENGTH)).toBe(OK);
  });

  it("is not a part of a large page around it", () => {
    const bench = new Bench(qemu11Q35);
    const root = bench.table();
    bench.legacy({ SSPTPTR: root });
    bench.map(root, 4, 0xc000_0000n, 0x1_4000_0083n, 3n, 3);
    expect(bench.translate(0xc000_0000n, Access.READ)).toBe(OK);
    expect([bench.translate(0xfee0_0000n, Access.READ), bench.takeReason()]).toEqual([FAULT, 0x29]);
  });

  it("refuses everything else (29h)", () => {
    const bench = new Bench(qemu11Q35);
    bench.legacy({ TT: "passThrough" });
    expect([bench.translate(0xfee0_0000n, Access.READ), bench.takeReason()]).toEqual([FAULT, 0x29]);
    bench.command("TE", false);
    expect([bench.translate(0xfee0_0000n, Access.READ), bench.takeReason()]).toEqual([ABORTED, 0]);
  });
});
