import { isErrno } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../../src/presets.js";
import { CR0, CR0ACK, GBPA, IDR0, IDR1, IDR5 } from "../../src/spec/registers.js";
import { machine } from "./machine.js";

const enabled = async (preset: keyof typeof PRESETS) => {
  const m = await machine({ preset });
  const { SMMUEN, CMDQEN, EVENTQEN, PRIQEN, ATSCHK } = CR0ACK.decode(Int32Array.of(m.chip.read32(CR0ACK.offset)));
  expect(await m.platform.close()).toEqual([]);
  return { SMMUEN, CMDQEN, EVENTQEN, PRIQEN, ATSCHK };
};

describe("bring-up (G9)", () => {
  it("enables what the ID registers show", async () => {
    const on = { SMMUEN: true, CMDQEN: true, EVENTQEN: true };
    expect(await enabled("qemu-11-virt")).toEqual({ ...on, PRIQEN: false, ATSCHK: false });
    expect(await enabled("mmu-700-like")).toEqual({ ...on, PRIQEN: true, ATSCHK: true });
    expect(await enabled("everything")).toEqual({ ...on, PRIQEN: true, ATSCHK: true });
  });

  it("invalidates all configuration and translations before it enables translation", async () => {
    const m = await machine();
    await m.run(async () => {
      await m.iommu.stop();
      const commands = await m.commands(() => m.iommu.start());
      expect(commands).toEqual(["CFGI_STE_RANGE", "TLBI_EL2_ALL", "TLBI_NSNH_ALL"]);
    });
  });

  it("aborts transactions while it resets an SMMU that firmware left enabled", async () => {
    const m = await machine();
    await m.run(() => m.iommu.start());
    expect(m.log()).toContain("arm-smmu-v3 smmuv3: SMMU currently enabled! Resetting...");
    expect(GBPA.ABORT.get(Int32Array.of(m.chip.read32(GBPA.offset)))).toBe(1);
  });

  it("prints what the kernel prints, with its feature bits", async () => {
    expect((await machine({ preset: "qemu-11-virt" })).log()).toEqual([
      "arm-smmu-v3 smmuv3: ias 44-bit, oas 44-bit (features 0x000a8705)",
      "arm-smmu-v3 smmuv3: allocated 4096 entries for cmdq",
      "arm-smmu-v3 smmuv3: allocated 4096 entries for evtq",
    ]);
  });

  it("gives everything back when it stops", async () => {
    const m = await machine();
    await m.run(() => m.iommu.stop());
    expect(m.platform.pages.usage().size).toBe(0);
    expect(m.chip.read32(CR0.offset)).toBe(0);
  });
});

describe("probe", () => {
  const refused = async (change: {
    idr0?: (words: Int32Array) => void;
    idr1?: (words: Int32Array) => void;
    idr5?: (words: Int32Array) => void;
  }) => {
    const base = PRESETS["mmu-700-like"];
    const apply = (value: number, edit?: (words: Int32Array) => void) => {
      const words = Int32Array.of(value);
      edit?.(words);
      return words[0];
    };
    const preset = {
      ...base,
      idr0: apply(base.idr0, change.idr0),
      idr1: apply(base.idr1, change.idr1),
      idr5: apply(base.idr5, change.idr5),
    };
    try {
      await machine({ preset });
    } catch (error) {
      if (isErrno(error, "ENODEV")) return error.message;
      throw error;
    }
    return "accepted";
  };

  it("names the field that says what is missing", async () => {
    expect(await refused({ idr0: (w) => IDR0.TTF.set(w, 0, 1) })).toContain("IDR0.TTF is aarch32");
    expect(await refused({ idr0: (w) => IDR0.TTENDIAN.set(w, 0, 3) })).toContain("IDR0.TTENDIAN is big");
    expect(await refused({ idr1: (w) => IDR1.TABLES_PRESET.set(w, 0, 1) })).toContain("IDR1.TABLES_PRESET is 1");
    expect(await refused({ idr1: (w) => IDR1.CMDQS.set(w, 0, 6) })).toContain("IDR1.CMDQS is 6");
    const none = (w: Int32Array) => {
      IDR0.S1P.set(w, 0, 0);
      IDR0.S2P.set(w, 0, 0);
    };
    expect(await refused({ idr0: none })).toContain("IDR0.S1P is 0: and IDR0.S2P too");
    const noGranule = (w: Int32Array) => {
      for (const field of [IDR5.GRAN4K, IDR5.GRAN16K, IDR5.GRAN64K]) field.set(w, 0, 0);
    };
    expect(await refused({ idr5: noGranule })).toContain("IDR5.GRAN4K is 0");
  });
});
