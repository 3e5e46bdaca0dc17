import { Access, AtsCompletion, NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Atc } from "../src/atc.js";

const RW = Access.READ | Access.WRITE;

function completion(pa: number, fields: Partial<AtsCompletion> = {}): AtsCompletion {
  return Object.assign(new AtsCompletion(), {
    hi: Math.floor(pa / 2 ** 32),
    lo: pa | 0,
    read: true,
    write: true,
    ...fields,
  });
}

describe("Address Translation Cache", () => {
  it("finds what it was given, and the physical address of any byte in it", () => {
    const atc = new Atc({ sets: 8, ways: 2 });
    atc.fill(3, 0x7f, 0x1234_5000 | 0, RW, completion(0x12_8765_4000));
    expect(atc.lookup(3, 0x7f, 0x1234_5678, RW)).toBe(true);
    expect([atc.paHi(0x7f), atc.paLo(0x1234_5678) >>> 0, atc.perms]).toEqual([0x12, 0x8765_4678, RW]);
    expect(atc.lookup(4, 0x7f, 0x1234_5678, RW)).toBe(false);
    expect(atc.lookup(NO_PASID, 0x7f, 0x1234_5678, RW)).toBe(false);
    expect(atc.lookup(3, 0x7e, 0x1234_5678, RW)).toBe(false);
  });

  it("holds translations of any size side by side, up to 2^52 and beyond 4 GiB pages", () => {
    const atc = new Atc({ sets: 8, ways: 4 });
    atc.fill(1, 0, 0x20_0000, RW, completion(0x4000_0000, { shift: 21 }));
    atc.fill(1, 0x80, 0, RW, completion(0x80_0000_0000, { shift: 39 }));
    atc.fill(1, 0, 0x1000, RW, completion(0x9000));
    expect(atc.lookup(1, 0, 0x3f_f123, RW)).toBe(true);
    expect(atc.paLo(0x3f_f123) >>> 0).toBe(0x401f_f123);
    expect(atc.lookup(1, 0xff, -1, RW)).toBe(true);
    expect([atc.paHi(0xff), atc.paLo(-1) >>> 0]).toEqual([0xff, 0xffff_ffff]);
    expect(atc.lookup(1, 0, 0x1fff, RW)).toBe(true);
    expect(atc.lookup(1, 0, 0x40_0000, RW)).toBe(false);
  });

  it("keeps nothing that grants nothing (R = W = 0: not present)", () => {
    const atc = new Atc({ sets: 1, ways: 1 });
    expect(atc.fill(1, 0, 0, RW, completion(0, { read: false, write: false }))).toBe(false);
    expect(atc.size).toBe(0);
  });

  it("keeps privileged and user translations apart", () => {
    const atc = new Atc({ sets: 4, ways: 2 });
    atc.fill(1, 0, 0x1000, RW | Access.PRIV, completion(0xa000));
    expect(atc.lookup(1, 0, 0x1000, RW)).toBe(false);
    expect(atc.lookup(1, 0, 0x1000, RW | Access.PRIV)).toBe(true);
  });

  it("uses a Global translation for every PASID, but not for requests without one", () => {
    const atc = new Atc({ sets: 4, ways: 2 });
    atc.fill(1, 0, 0x1000, RW, completion(0xa000, { global: true }));
    expect(atc.lookup(9, 0, 0x1000, RW)).toBe(true);
    expect(atc.lookup(NO_PASID, 0, 0x1000, RW)).toBe(false);
  });

  it("replaces the entry of a set that was used longest ago", () => {
    const atc = new Atc({ sets: 1, ways: 2 });
    atc.fill(1, 0, 0x1000, RW, completion(0xa000));
    atc.fill(1, 0, 0x2000, RW, completion(0xb000));
    atc.lookup(1, 0, 0x1000, RW);
    atc.fill(1, 0, 0x3000, RW, completion(0xc000));
    expect([0x1000, 0x2000, 0x3000].map((lo) => atc.lookup(1, 0, lo, RW))).toEqual([true, false, true]);
  });

  it("replaces a translation in place when its permissions change", () => {
    const atc = new Atc({ sets: 1, ways: 4 });
    atc.fill(1, 0, 0x1000, RW, completion(0xa000, { write: false }));
    atc.fill(1, 0, 0x1000, RW, completion(0xb000));
    expect(atc.size).toBe(1);
    expect(atc.lookup(1, 0, 0x1000, RW) && atc.perms).toBe(RW);
  });

  it("drops what overlaps an invalidation: smaller pages in it, and larger pages around it (10.3.1)", () => {
    const atc = new Atc({ sets: 8, ways: 4 });
    atc.fill(1, 0, 0x1000, RW, completion(0xa000));
    atc.fill(1, 0, 0x5000, RW, completion(0xb000));
    atc.fill(1, 0, 0x20_0000, RW, completion(0x4000_0000, { shift: 21 }));
    atc.fill(2, 0, 0x1000, RW, completion(0xc000));
    expect(atc.invalidate(1, 0, 0x20_3000, 12, false)).toBe(1);
    expect(atc.invalidate(1, 0, 0, 14, false)).toBe(1);
    expect(atc.lookup(1, 0, 0x5000, RW)).toBe(true);
    expect(atc.lookup(2, 0, 0x1000, RW)).toBe(true);
    expect(atc.invalidate(1, 0, 0, 64, true)).toBe(2);
    expect(atc.size).toBe(0);
  });

  it("never throws a translation away that belongs to others, except a Global one", () => {
    const atc = new Atc({ sets: 4, ways: 2 });
    atc.fill(1, 0, 0x1000, RW, completion(0xa000, { global: true }));
    atc.fill(NO_PASID, 0, 0x1000, RW, completion(0xd000));
    expect(atc.invalidate(NO_PASID, 0, 0, 64, false)).toBe(1);
    expect(atc.invalidate(7, 0, 0x1000, 12, false)).toBe(1);
  });
});
