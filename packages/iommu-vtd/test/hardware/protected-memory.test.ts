import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { everything, qemu11Q35 } from "../../src/presets.js";
import { PHMBASE, PHMLIMIT, PLMBASE, PLMLIMIT, PMEN } from "../../src/spec/registers.js";
import { Bench } from "./bench.js";

const { OK, ABORTED } = TranslationStatus;

describe("protected memory (11.4.8)", () => {
  it("is blocked while translation is off, from base to the end of the limit's granule", () => {
    const bench = new Bench(everything);
    bench.chip.write32(PLMBASE.offset, 0x0040_0000);
    bench.chip.write32(PLMLIMIT.offset, 0x0060_0000);
    bench.chip.write64(PHMBASE.offset, 0x1_0000_0000n);
    bench.chip.write64(PHMLIMIT.offset, 0x1_0000_0000n);
    const answers = (...addresses: bigint[]) => addresses.map((address) => bench.translate(address, Access.READ));
    expect(answers(0x40_0000n, 0x1_0000_0000n)).toEqual([OK, OK]);
    bench.chip.write32(PMEN.offset, 0x8000_0000);
    expect(bench.chip.read32(PMEN.offset)).toBe(0x8000_0001);
    expect(answers(0x3f_f000n, 0x40_0000n, 0x7f_f000n, 0x80_0000n)).toEqual([OK, ABORTED, ABORTED, OK]);
    expect(answers(0x1_0000_0000n, 0x1_001f_f000n, 0x1_0020_0000n)).toEqual([ABORTED, ABORTED, OK]);
    // Locked while it is protected.
    bench.chip.write32(PLMBASE.offset, 0);
    expect(bench.chip.read32(PLMBASE.offset)).toBe(0x0040_0000);
    bench.chip.write32(PMEN.offset, 0);
    expect(answers(0x40_0000n)).toEqual([OK]);
  });

  it("does not exist where CAP has neither region", () => {
    const bench = new Bench(qemu11Q35);
    bench.chip.write32(PMEN.offset, 0x8000_0000);
    bench.chip.write32(PLMLIMIT.offset, 0x60_0000);
    expect([bench.chip.read32(PMEN.offset), bench.chip.read32(PLMLIMIT.offset)]).toEqual([0, 0]);
  });
});
