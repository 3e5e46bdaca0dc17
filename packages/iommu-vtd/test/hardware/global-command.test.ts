import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { everything, qemu11Q35 } from "../../src/presets.js";
import { AFLOG, GCMD, GSTS, ICS, IQA, IQH, IQT, IRTA, PQA, PQT, PRS, RTADDR } from "../../src/spec/registers.js";
import { Bench, PASIDS, RAM, ROOT, withCap, withEcap } from "./bench.js";

const status = (bench: Bench) => bench.get(GSTS);

describe("GCMD", () => {
  it("reads as zero; GSTS mirrors what was enabled, one bit at a time (H4)", () => {
    const bench = new Bench(qemu11Q35);
    bench.setRoot(0);
    expect(status(bench)).toMatchObject({ RTPS: true, TES: false });
    bench.command("TE");
    bench.command("QIE");
    bench.command("IRE");
    bench.command("CFI");
    expect(status(bench)).toMatchObject({ RTPS: true, TES: true, QIES: true, IRES: true, CFIS: true, WBFS: false });
    expect(bench.chip.read32(GCMD.offset)).toBe(0);
    bench.command("TE", false);
    bench.command("CFI", false);
    expect(status(bench)).toMatchObject({ RTPS: true, TES: false, QIES: true, IRES: true, CFIS: false });
  });

  it("sets the interrupt table pointer (6.7)", () => {
    const bench = new Bench(qemu11Q35);
    bench.set(IRTA, { IRTA: RAM, S: 3 });
    bench.command("SIRTP");
    expect(status(bench).IRTPS).toBe(true);
  });

  it("ignores commands of features that the unit does not have", () => {
    const bench = new Bench(withEcap(qemu11Q35, { QI: 0, IR: 0 }));
    for (const bit of ["QIE", "IRE", "CFI", "SIRTP", "EAFL", "SFL"] as const) bench.command(bit);
    expect(Object.values(status(bench)).some(Boolean)).toBe(false);
  });

  it("has zeros where fields of missing features would be (11.4.5, 11.4.10)", () => {
    for (const [preset, EIME] of [
      [everything, true],
      [withEcap(everything, { EIM: 0 }), false],
    ] as const) {
      const bench = new Bench(preset);
      bench.set(IRTA, { IRTA: RAM, EIME: true, S: 3 });
      expect(bench.get(IRTA)).toMatchObject({ IRTA: BigInt(RAM), EIME, S: 3 });
      bench.set(RTADDR, { RTA: RAM, TTM: 1, SSIRWE: true });
      expect(bench.get(RTADDR)).toMatchObject({ RTA: BigInt(RAM), TTM: "scalable", SSIRWE: false });
    }
  });

  it("completes a write buffer flush at once (6.8)", () => {
    const bench = new Bench(qemu11Q35);
    bench.command("WBF");
    expect(status(bench).WBFS).toBe(false);
  });

  it("bypasses while translation is off", () => {
    const bench = new Bench(qemu11Q35);
    expect(bench.translate(0x1234_5678n, Access.WRITE)).toBe(TranslationStatus.OK);
    expect(bench.pa).toBe(0x1234_5678);
    expect(bench.translate(0x1000n, Access.READ | Access.TRANSLATED)).toBe(TranslationStatus.UNSUPPORTED);
  });

  it("keeps caches over Set Root Table Pointer unless CAP.ESRTPS (6.6)", () => {
    for (const [ESRTPS, kept] of [
      [1, false],
      [0, true],
    ] as const) {
      const bench = new Bench(withCap(qemu11Q35, { ESRTPS }));
      bench.legacy({ TT: "passThrough" });
      bench.translate(0x1000n, Access.READ);
      bench.store(ROOT + 16, 0n);
      bench.setRoot(0);
      expect(bench.translate(0x1000n, Access.READ) === TranslationStatus.OK).toBe(kept);
    }
  });

  it("drops the caches of a scalable unit when translation goes off (11.4.4.1)", () => {
    const bench = new Bench(everything);
    bench.scalable({ 5: { PGTT: "passThrough" } });
    bench.translate(0x1000n, Access.READ, 5);
    bench.store(PASIDS + 5 * 64, 0n);
    bench.command("TE", false);
    bench.command("TE");
    expect(bench.translate(0x1000n, Access.READ, 5)).toBe(TranslationStatus.FAULT);
  });
});

describe("registers", () => {
  it("of missing features read as zero and ignore writes", () => {
    const bench = new Bench({ ...qemu11Q35, ecap: 0xf00n });
    for (const { offset } of [IQA, IQT, IRTA, PQA, PQT, AFLOG]) {
      bench.chip.write64(offset, 0x1234_5000n);
      expect([offset, bench.chip.read64(offset)]).toEqual([offset, 0n]);
    }
    expect([bench.chip.read32(ICS.offset), bench.chip.read32(PRS.offset)]).toEqual([0, 0]);
    expect([bench.chip.read32(0xa0), bench.chip.read32(0xe0), bench.chip.read32(0x38)]).toEqual([0, 0, 0x8000_0000]);
  });

  it("go back to their reset values, and tables and caches with them", () => {
    const bench = new Bench(everything);
    const initial = [...bench.chip.registers.words];
    bench.scalable({ 5: { PGTT: "passThrough" } });
    bench.translate(0x1000n, Access.READ, 5);
    bench.translate(0x1000n, Access.READ, 7);
    bench.chip.reset();
    expect([...bench.chip.registers.words]).toEqual(initial);
    expect(bench.chip.iotlb.tags.size + bench.chip.config.contexts.tags.size + bench.chip.config.pasids.tags.size).toBe(
      0,
    );
    expect(bench.chip.read64(IQH.offset)).toBe(0n);
  });
});
