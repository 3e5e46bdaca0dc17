import { describe, expect, it } from "vitest";
import { FAULT_REASONS, FRCD, faultReason } from "../../src/spec/faults.js";

describe("fault reasons", () => {
  it("have the codes of tables 15 and 30 (H17)", () => {
    const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
    expect(FAULT_REASONS.map(({ code }) => code)).toEqual([
      ...range(0x01, 0x0e),
      ...range(0x20, 0x2b),
      ...range(0x30, 0x34),
      ...range(0x38, 0x3a),
      ...range(0x40, 0x49),
      ...range(0x50, 0x52),
      ...range(0x58, 0x5d),
      ...range(0x70, 0x7d),
      ...range(0x80, 0x87),
      0x89,
      0x90,
      0x91,
    ]);
  });

  it("are not qualified where no entry with FPD could have been read (H18)", () => {
    const plain = FAULT_REASONS.filter(({ qualified }) => !qualified).map(({ code }) => code);
    expect(plain).toEqual([
      0x01, 0x08, 0x09, 0x0a, 0x20, 0x21, 0x23, 0x25, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x34, 0x38, 0x39, 0x3a,
      0x40, 0x50, 0x58,
    ]);
  });

  it("carry Linux's text", () => {
    expect(faultReason(0x71)?.meaning).toBe("SM: Present bit in first-level paging entry is clear");
    expect(faultReason(0x33)?.linux).toBe(false);
    expect(faultReason(0x55)).toBeUndefined();
  });
});

describe("FRCD", () => {
  it("decodes a record that QEMU wrote (H16)", () => {
    const words = Int32Array.of(0x0010_1000, 0x7f80, 0x18, 0x8000_0005 | 0);
    expect(FRCD.decode(words)).toMatchObject({ F: true, T1: false, FR: 5, SID: 0x18, FI: 0x7f8000101000n, PP: false });
  });
});
