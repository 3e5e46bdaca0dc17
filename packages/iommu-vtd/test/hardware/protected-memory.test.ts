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
    bench.set(PMEN, { EPM: true });
    expect(bench.get(PMEN)).toEqual({ EPM: true, PRS: true });
    expect(answers(0x3f_f000n, 0x40_0000n, 0x7f_f000n, 0x80_0000n)).toEqual([OK, ABORTED, ABORTED, OK]);
    expect(answers(0x1_0000_0000n, 0x1_001f_f000n, 0x1_0020_0000n)).toEqual([ABORTED, ABORTED, OK]);
    // Locked while it is protected.
    bench.chip.write32(PLMBASE.offset, 0);
    expect(bench.chip.read32(PLMBASE.offset)).toBe(0x0040_0000);
    bench.set(PMEN, { EPM: false });
    expect(answers(0x40_0000n)).toEqual([OK]);
  });

  it("is blocked with translation on as well: by pass-through, for translated requests, from the IOTLB; unrecorded", () => {
    const bench = new Bench(everything);
    const table = bench.table();
    bench.legacy({ TT: "deviceTlb", SSPTPTR: table });
    bench.map(table, 4, 0x1000n, 0x1_0080_0003n, 3n);
    const asks = () => [
      bench.translate(0x1000n, Access.READ),
      bench.translate(0x1_0080_0000n, Access.READ | Access.TRANSLATED),
    ];
    expect(asks()).toEqual([OK, OK]);
    bench.set(PHMBASE, { PHMB: 0x1_0080_0000 });
    bench.set(PHMLIMIT, { PHML: 0x1_0080_0000 });
    bench.set(PMEN, { EPM: true });
    expect(asks()).toEqual([ABORTED, ABORTED]);
    const passing = new Bench(everything);
    passing.legacy({ TT: "passThrough" });
    passing.set(PLMLIMIT, { PLML: 0x20_0000 });
    passing.set(PMEN, { EPM: true });
    expect([0x3f_f000n, 0x40_0000n].map((address) => passing.translate(address, Access.WRITE))).toEqual([ABORTED, OK]);
    expect([bench.status.PPF, passing.status.PPF]).toEqual([false, false]);
    passing.chip.reset();
    expect(passing.translate(0x1000n, Access.WRITE)).toBe(OK);
  });

  it("does not exist where CAP has neither region", () => {
    const bench = new Bench(qemu11Q35);
    bench.chip.write32(PMEN.offset, 0x8000_0000);
    bench.chip.write32(PLMLIMIT.offset, 0x60_0000);
    expect([bench.chip.read32(PMEN.offset), bench.chip.read32(PLMLIMIT.offset)]).toEqual([0, 0]);
  });
});
