import { describe, expect, it } from "vitest";
import {
  addr,
  bit,
  explain,
  layout,
  oneOf,
  RegisterFile,
  register,
  relocated,
  reserved,
  toMarkdown,
  uint,
} from "../../src/index.js";

const ENTRY = layout(
  { name: "ENTRY", bits: 128, spec: "test 1" },
  {
    V: bit(0, "valid"),
    Config: oneOf(3, 1, { abort: 0, bypass: 4 }, "what to do"),
    R0: reserved(5, 4),
    Ptr: addr(51, 6, "table"),
    R1: reserved(58, 52),
    Max: uint(63, 59, "size"),
    Split: uint(100, 90, "crosses a word"),
    R2: reserved(89, 64),
    Whole: addr(127, 108, "high only"),
    R3: reserved(107, 101),
  },
);

describe("layout", () => {
  it("assigns some fields and leaves the others", () => {
    const words = ENTRY.encode({ V: true, Ptr: 0x40, Split: 0x5a5 });
    expect(ENTRY.assign(words, { Config: "bypass", Split: 1, Max: undefined })).toBe(words);
    expect(ENTRY.decode(words)).toMatchObject({ V: true, Config: "bypass", Ptr: 0x40, Max: 0, Split: 1 });
  });

  it("reads and writes every field where its bits are", () => {
    const words = ENTRY.encode({ V: true, Config: "bypass", Ptr: 0xf_ffff_ffff_ffc0, Max: 31, Split: 0x5a5 });
    expect([...words].map((word) => word >>> 0)).toEqual([0xffff_ffc9, 0xf80f_ffff, 0x9400_0000, 0x0000_0016]);
    expect(ENTRY.decode(words)).toEqual({
      V: true,
      Config: "bypass",
      Ptr: 0xf_ffff_ffff_ffc0,
      Max: 31,
      Split: 0x5a5,
      Whole: 0n,
    });
    expect([ENTRY.Ptr.hi(words), ENTRY.Ptr.lo(words) >>> 0]).toEqual([0xf_ffff, 0xffff_ffc0]);
  });

  it("refuses a value that does not fit", () => {
    expect(() => ENTRY.encode({ Max: 32 })).toThrow(/Max: 0x20 does not fit bits 63:59/);
    expect(() => ENTRY.encode({ Ptr: 0x20 })).toThrow(RangeError);
  });

  it("throws at load on an overlap, a gap and a field outside", () => {
    const head = { name: "BAD", bits: 32, spec: "test" };
    expect(() => layout(head, { A: uint(15, 0, "a"), B: uint(31, 15, "b") })).toThrow("BAD.B [31:15] overlaps bit 15");
    expect(() => layout(head, { A: uint(15, 0, "a"), B: uint(31, 17, "b") })).toThrow("bits 16:16 are in no field");
    expect(() => layout(head, { A: uint(32, 0, "a") })).toThrow("leaves the 32-bit layout");
  });

  it("finds reserved bits that are set", () => {
    const words = ENTRY.encode({});
    expect(ENTRY.reservedViolated(words)).toBe(false);
    words[0] |= 1 << 4;
    expect(ENTRY.reservedViolated(words)).toBe(true);
  });

  it("explains and documents itself", () => {
    const words = ENTRY.encode({ V: true, Config: "bypass" });
    expect(explain(ENTRY, words).split("\n").slice(0, 3)).toEqual([
      "ENTRY (test 1)",
      "  V[0]           = 0x1           valid",
      "  Config[3:1]    = 0x4 (bypass)  what to do",
    ]);
    expect(toMarkdown(ENTRY)).toContain("| 3:1 | `Config` | rw | what to do (0 abort, 4 bypass) |");
  });
});

describe("RegisterFile", () => {
  const CTRL = register(
    { name: "CTRL", offset: 0x10, bits: 32, spec: "test" },
    {
      EN: bit(0, "on"),
      ST: bit(1, "status", { access: "ro", reset: 1 }),
      ERR: bit(2, "error", { access: "w1c" }),
      R: reserved(31, 3),
    },
  );
  const BASE = register(
    { name: "BASE", offset: 0x18, bits: 64, spec: "test" },
    { R: reserved(11, 0), ADDR: addr(51, 12, "where"), R2: reserved(62, 52), GO: bit(63, "start") },
  );
  const make = () => new RegisterFile("unit", 0x100, [CTRL, BASE]);

  it("applies reset, read-only and write-one-to-clear", () => {
    const file = make();
    expect(file.read32(0x10)).toBe(2);
    CTRL.ERR.set(file.words, CTRL.index, 1);
    file.write32(0x10, 0xffff_fff9);
    expect(file.read32(0x10)).toBe(7);
    file.write32(0x10, 4);
    expect(file.read32(0x10)).toBe(2);
  });

  it("runs the hook of a 64-bit register once for a 64-bit write and per half for 32-bit writes", () => {
    const file = make();
    const written: number[] = [];
    file.onWrite(BASE, (mask) => written.push(mask));
    file.write64(0x18, 0x8000_0001_2345_6789n);
    file.write32(0x1c, 0);
    file.write32(0x18, 0x1000);
    expect(written).toEqual([3, 2, 1]);
    expect(file.read64(0x18)).toBe(0x1000n);
  });

  it("reads zero and ignores writes where no register is, and refuses overlaps", () => {
    const file = make();
    file.write32(0x80, 5);
    expect(file.read32(0x80)).toBe(0);
    expect(() => new RegisterFile("bad", 0x100, [CTRL, relocated(CTRL, 0x10, "OTHER")])).toThrow("OTHER overlaps CTRL");
  });
});
