import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";

const words = (qwords: readonly bigint[]) =>
  Int32Array.from(qwords.flatMap((q) => [Number(q & 0xffff_ffffn) | 0, Number(q >> 32n) | 0]));

describe("STE", () => {
  it("decodes an entry that Linux wrote (5.2, G11 to G13)", () => {
    // arm_smmu_make_cdtable_ste: V, S1, two levels of 64 KiB, 2^16 CDs, EATS = 1, S1DSS = SSID0.
    const ste = words([0x8000_0001_0000_002bn, 0x0000_0000_1000_00d6n | (1n << 44n), 0n, 0n, 0n, 0n, 0n, 0n]);
    expect(s.STE.decode(ste)).toMatchObject({
      V: true,
      Config: "s1",
      S1Fmt: "twoLevel64K",
      S1ContextPtr: 0x1_0000_0000,
      S1CDMax: 16,
      S1DSS: "ssid0",
      EATS: "full",
      SHCFG: "incoming",
    });
  });

  it("has the stage 2 fields where G13 says", () => {
    const ste = s.STE.encode({
      S2VMID: 0xffff,
      S2T0SZ: 0x3f,
      S2SL0: 3,
      S2TG: 3,
      S2PS: 7,
      S2AA64: true,
      S2R: true,
      S2TTB: 0xf_ffff_ffff_fff0n,
    });
    expect([ste[4] >>> 0, ste[5] >>> 0, ste[6] >>> 0, ste[7] >>> 0]).toEqual([
      0xffff, 0x040f_c0ff, 0xffff_fff0, 0x000f_ffff,
    ]);
  });
});

describe("CD", () => {
  it("has every field of the first doubleword in its place (5.4, G16)", () => {
    const at = (name: string) => [s.CD.field(name).msb, s.CD.field(name).lsb];
    expect(["T0SZ", "TG0", "IR0", "OR0", "SH0", "EPD0", "ENDI", "T1SZ", "TG1", "EPD1", "V"].map(at)).toEqual([
      [5, 0],
      [7, 6],
      [9, 8],
      [11, 10],
      [13, 12],
      [14, 14],
      [15, 15],
      [21, 16],
      [23, 22],
      [30, 30],
      [31, 31],
    ]);
    expect(
      ["IPS", "AFFD", "WXN", "UWXN", "TBI", "PAN", "AA64", "HD", "HA", "S", "R", "A", "ASET", "ASID"].map(at),
    ).toEqual([
      [34, 32],
      [35, 35],
      [36, 36],
      [37, 37],
      [39, 38],
      [40, 40],
      [41, 41],
      [42, 42],
      [43, 43],
      [44, 44],
      [45, 45],
      [46, 46],
      [47, 47],
      [63, 48],
    ]);
    expect(["TTB0", "TTB1", "MAIR0"].map(at)).toEqual([
      [115, 68],
      [179, 132],
      [223, 192],
    ]);
  });
});

describe("commands", () => {
  it("encodes Linux's words (G24 to G28)", () => {
    const hex = (w: Int32Array) => [...w].map((word) => (word >>> 0).toString(16));
    expect(hex(s.CMD_CFGI_STE.encode({ Opcode: "CFGI_STE", StreamID: 0x1234, Leaf: true }))).toEqual([
      "3",
      "1234",
      "1",
      "0",
    ]);
    expect(hex(s.CMD_CFGI_CD.encode({ Opcode: "CFGI_CD", StreamID: 1, SubstreamID: 5, Leaf: true }))).toEqual([
      "5005",
      "1",
      "1",
      "0",
    ]);
    expect(
      hex(
        s.CMD_TLBI_NH_VA.encode({
          Opcode: "TLBI_NH_VA",
          NUM: 3,
          SCALE: 1,
          VMID: 2,
          ASID: 7,
          Leaf: true,
          TTL: 3,
          TG: 1,
          Address: 0x4000_5000,
        }),
      ),
    ).toEqual(["103012", "70002", "40005701", "0"]);
    expect(
      hex(s.CMD_ATC_INV.encode({ Opcode: "ATC_INV", SSV: true, SubstreamID: 9, StreamID: 0x10, Size: 52 })),
    ).toEqual(["9840", "10", "34", "0"]);
    expect(
      hex(s.CMD_PRI_RESP.encode({ Opcode: "PRI_RESP", StreamID: 0x10, PRGIndex: 0x1ff, Resp: "success" })),
    ).toEqual(["41", "10", "21ff", "0"]);
    expect(hex(s.CMD_RESUME.encode({ Opcode: "RESUME", Ac: true, StreamID: 0x10, STAG: 0xabcd }))).toEqual([
      "1044",
      "10",
      "abcd",
      "0",
    ]);
    expect(hex(s.CMD_SYNC.encode({ Opcode: "SYNC", CS: "irq", MSIData: 0xcafe, MSIAddress: 0xfee0_0040 }))).toEqual([
      "1046",
      "cafe",
      "fee00040",
      "0",
    ]);
  });

  it("has one layout per opcode, and CFGI_VMS_PIDM at 7 (G24)", () => {
    expect([...s.COMMANDS.keys()].sort((a, b) => a - b)).toEqual(Object.values(s.OPCODE).sort((a, b) => a - b));
    expect(s.OPCODE.CFGI_VMS_PIDM).toBe(7);
  });
});

describe("events", () => {
  it("decodes the record that QEMU wrote for an unmapped write (G31)", () => {
    const record = words([0x0000_0010_0000_0010n, 0x0000_0200_0000_0000n, 0x0000_0080_0010_1000n, 0n]);
    expect(s.F_TRANSLATION.decode(record)).toMatchObject({
      ID: "F_TRANSLATION",
      StreamID: 0x10,
      RnW: false,
      Class: "IN",
      S2: false,
      InputAddr: 0x80_0010_1000n,
    });
  });

  it("has a layout for every number (G30)", () => {
    expect([...s.EVENTS.keys()]).toEqual(Object.values(s.EVENT));
  });
});

describe("PRIQ entry", () => {
  it("packs a request (8.1, G34)", () => {
    const entry = s.PRIQ_ENTRY.encode({
      StreamID: 0x8,
      SubstreamID: 0xfffff,
      W: true,
      R: true,
      Last: true,
      SSV: true,
      PRGIndex: 5,
      PageAddress: 0x7000n,
    });
    expect([...entry].map((word) => word >>> 0)).toEqual([8, 0xf00f_ffff, 0x7005, 0]);
  });
});

describe("registers", () => {
  it("stands at the offsets of 6.2 (G1 to G8)", () => {
    const offsets = Object.fromEntries(s.REGISTERS.map(({ name, offset }) => [name, offset]));
    expect(offsets).toMatchObject({
      IDR0: 0,
      IDR5: 0x14,
      CR0: 0x20,
      CR0ACK: 0x24,
      CR2: 0x2c,
      GBPA: 0x44,
      IRQ_CTRL: 0x50,
      GERROR: 0x60,
      GERRORN: 0x64,
      GERROR_IRQ_CFG0: 0x68,
      STRTAB_BASE: 0x80,
      STRTAB_BASE_CFG: 0x88,
      CMDQ_BASE: 0x90,
      CMDQ_PROD: 0x98,
      CMDQ_CONS: 0x9c,
      EVENTQ_BASE: 0xa0,
      EVENTQ_PROD: 0x100a8,
      EVENTQ_CONS: 0x100ac,
      PRIQ_BASE: 0xc0,
      PRIQ_PROD: 0x100c8,
      PRIQ_CONS: 0x100cc,
    });
  });
});
