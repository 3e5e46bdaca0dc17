import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { DATA, HOLE, machine, S1_ROOT } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const VA = 0x12_3456_7000n;

describe("stage 1, 4 KiB granule", () => {
  it("translates a page and keeps the offset", () => {
    const m = machine();
    m.stage1();
    m.map(VA, DATA);
    expect(m.translate(VA + 0x123n)).toBe(OK);
    expect(m.pa).toBe(DATA + 0x123);
    expect(m.out.shift).toBe(12);
    expect(m.out.perms).toBe(Access.READ | Access.WRITE | Access.EXEC);
    expect(m.events()).toEqual([]);
  });

  it("records F_TRANSLATION for an address without a descriptor (7.3.13, G20)", () => {
    const m = machine();
    m.stage1();
    m.map(VA, DATA);
    expect(m.translate(VA + 0x1004n, Access.WRITE)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      { ID: "F_TRANSLATION", StreamID: 0, SSV: false, RnW: false, S2: false, Class: "IN", InputAddr: VA + 0x1004n },
    ]);
  });

  it("records F_WALK_EABT with the descriptor's address where a table is missing from memory (7.3.12, G20)", () => {
    const m = machine();
    m.stage1();
    m.memory.store64(S1_ROOT, HOLE / 2 ** 32, 3);
    expect(m.translate(0x1000n)).toBe(FAULT);
    expect(m.events()).toMatchObject([
      { ID: "F_WALK_EABT", Class: "TT", S2: false, FetchAddr: HOLE, InputAddr: 0x1000n },
    ]);
  });
});
