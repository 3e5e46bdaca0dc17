import { createPlatform, IommuError, type IommuPlugin, type Mmio } from "@iommukit/core";
import { describe, expect, it, vi } from "vitest";
import { missingForSva, probe } from "../../src/driver/probe.js";
import { VtdHardware } from "../../src/hardware/vtd-hardware.js";
import { vtd } from "../../src/plugin.js";
import { everything, qemu11Q35, sapphireRapidsLike, type VtdPreset, type VtdPresetName } from "../../src/presets.js";
import { CAP, ECAP, GCMD, GSTS, IQA, PLMLIMIT, PMEN, RTADDR } from "../../src/spec/registers.js";
import { machine, withFields } from "./machine.js";

/** CAP and ECAP of a preset, without a unit. */
function capabilities({ cap, ecap }: VtdPreset): Mmio {
  return { read64: (offset: number) => (offset === CAP.offset ? cap : offset === ECAP.offset ? ecap : 0n) } as Mmio;
}

describe("probe", () => {
  it("takes scalable mode where the unit has it, else legacy mode", () => {
    expect(probe(capabilities(sapphireRapidsLike))).toMatchObject({
      scalable: true,
      stage: "second",
      levels: 5,
      pasidBits: 20,
    });
    expect(probe(capabilities(qemu11Q35))).toMatchObject({ scalable: false, stage: "second", levels: 4, pasidBits: 0 });
    expect(probe(capabilities(sapphireRapidsLike), { mode: "legacy" })).toMatchObject({
      scalable: false,
      pasidBits: 0,
    });
  });

  it("offers the address width and page sizes that CAP says", () => {
    expect(probe(capabilities(qemu11Q35))).toMatchObject({ iovaBits: 48, pgsizeBitmap: 0x4020_1000n });
    const narrow = withFields(qemu11Q35, { cap: { MGAW: 38, SSLPS: 1 } });
    expect(probe(capabilities(narrow))).toMatchObject({ iovaBits: 39, pgsizeBitmap: 0x20_1000n, levels: 4 });
  });

  it("uses the first stage where there is only that one, without the upper half of its addresses", () => {
    const firstOnly = withFields(sapphireRapidsLike, { cap: { FS5LP: 0 }, ecap: { SSTS: 0 } });
    expect(probe(capabilities(firstOnly))).toMatchObject({ stage: "first", levels: 4, iovaBits: 47 });
    const fiveLevels = withFields(sapphireRapidsLike, { ecap: { SSTS: 0 } });
    expect(probe(capabilities(fiveLevels))).toMatchObject({ stage: "first", levels: 5, iovaBits: 56 });
  });

  it.each([
    [{ ecap: { QI: 0 } }, {}, "ECAP.QI = 0: the unit has no queued invalidation"],
    [{ cap: { SAGAW: 0 } }, {}, "CAP.SAGAW = 0x0"],
    [{ ecap: { SMTS: 0 } }, { mode: "scalable" }, "scalable mode was asked for, but ECAP.SMTS = 0"],
  ] as const)("refuses a unit with %j by naming the bit", (fields, options, message) => {
    expect(() => probe(capabilities(withFields(sapphireRapidsLike, fields)), options)).toThrow(message);
  });
});

describe("missingForSva (H29)", () => {
  const missing = (fields: Parameters<typeof withFields>[1], vaBits?: number) =>
    missingForSva(probe(capabilities(withFields(sapphireRapidsLike, fields))), vaBits);

  it("finds nothing missing on a unit that can share address spaces", () => {
    expect(missing({})).toEqual([]);
    expect(missing({}, 57)).toEqual([]);
  });

  it.each([
    ["PASID", "ECAP.PASID = 0: requests with PASID are not supported"],
    ["SMPWCS", "ECAP.SMPWCS = 0: walks do not see what the CPU has in its caches"],
    ["FSTS", "ECAP.FSTS = 0: no first-stage translation, so process page tables cannot be walked"],
    ["DT", "ECAP.DT = 0: no device-TLBs, so no ATS"],
  ])("names ECAP.%s", (bit, sentence) => {
    expect(missing({ ecap: { [bit]: 0 } })).toEqual([sentence]);
  });

  it("names CAP.FS1GP, and CAP.FS5LP for processes with five levels only", () => {
    expect(missing({ cap: { FS1GP: 0 } })).toEqual(["CAP.FS1GP = 0: processes may use 1 GiB pages"]);
    expect(missing({ cap: { FS5LP: 0 } })).toEqual([]);
    expect(missing({ cap: { FS5LP: 0 } }, 57)).toEqual(["CAP.FS5LP = 0: processes use five levels of page table"]);
  });
});

describe("bring-up", () => {
  it("leaves translation and the queue on, with 128-bit descriptors in legacy mode", async () => {
    const m = await machine({ preset: qemu11Q35 });
    const { words } = m.chip.registers;
    expect(GSTS.decode(words, GSTS.index)).toMatchObject({ TES: true, QIES: true, RTPS: true });
    expect(IQA.decode(words, IQA.index)).toMatchObject({ DW: "128", QS: 0 });
    expect(RTADDR.decode(words, RTADDR.index)).toMatchObject({ TTM: "legacy" });
    expect(m.log).toEqual(["DMAR: dmar0: Using Queued invalidation"]);
    expect(await m.platform.close()).toEqual([]);
    expect(GSTS.decode(words, GSTS.index)).toMatchObject({ TES: false, QIES: false });
  });

  it("uses 256-bit descriptors in scalable mode (6.5.2)", async () => {
    const m = await machine({ preset: sapphireRapidsLike });
    const { words } = m.chip.registers;
    expect(IQA.decode(words, IQA.index)).toMatchObject({ DW: "256", QS: 1 });
    expect(RTADDR.decode(words, RTADDR.index)).toMatchObject({ TTM: "scalable" });
    expect(await m.platform.close()).toEqual([]);
  });

  it.each([
    ["legacy mode", withFields(qemu11Q35, { cap: { ESRTPS: 0 } }), ["cc_inv_dsc", "iotlb_inv_dsc"]],
    ["scalable mode", withFields(everything, { cap: { ESRTPS: 0 } }), ["cc_inv_dsc", "pc_inv_dsc", "iotlb_inv_dsc"]],
    ["a unit that does it by itself (CAP.ESRTPS)", sapphireRapidsLike, []],
  ])("invalidates everything after the root table is set: %s", async (_what, preset, expected) => {
    const platform = await createPlatform({ iommus: [] });
    const seen: string[] = [];
    platform.trace.on("command:consumed", ({ command }) => seen.push(command));
    await platform.run(() => platform.addIommu(vtd({ preset })));
    expect(seen.filter((command) => command !== "inv_wait_dsc")).toEqual(expected);
  });

  it("changes one bit of GCMD per write and keeps the enables that stand (11.4.4)", async () => {
    const write32 = vi.spyOn(VtdHardware.prototype, "write32");
    const m = await machine({ preset: withFields(qemu11Q35, { cap: { RWBF: 1 } }) });
    await m.platform.close();
    const writes = write32.mock.calls.filter(([offset]) => offset === GCMD.offset).map(([, value]) => value);
    write32.mockRestore();
    const { QIE, WBF, SRTP, TE } = GCMD;
    const bits = (...fields: { lowMask: number }[]) => fields.reduce((sum, { lowMask }) => sum | lowMask, 0) >>> 0;
    expect(writes).toEqual([bits(QIE), bits(QIE, WBF), bits(QIE, SRTP), bits(QIE, WBF), bits(QIE, TE), bits(QIE), 0]);
  });

  it("takes the protection of firmware off memory once translation is on (11.4.8.1)", async () => {
    const plugin = vtd({ preset: sapphireRapidsLike });
    const firmware: IommuPlugin = {
      ...plugin,
      create: (container, name) => {
        const instance = plugin.create(container, name);
        const chip = instance.chip as VtdHardware;
        chip.write32(PLMLIMIT.offset, 0x20_0000);
        chip.write32(PMEN.offset, PMEN.EPM.lowMask >>> 0);
        expect(PMEN.decode(chip.registers.words, PMEN.index)).toEqual({ EPM: true, PRS: true });
        return instance;
      },
    };
    const platform = await createPlatform({ iommus: [firmware] });
    const { words } = (platform.iommus[0].chip as VtdHardware).registers;
    expect(PMEN.decode(words, PMEN.index)).toEqual({ EPM: false, PRS: false });
    expect(GSTS.decode(words, GSTS.index)).toMatchObject({ TES: true });
  });

  it("gives up on a unit that does not follow a command, by the names of both bits", async () => {
    const read32 = vi.spyOn(VtdHardware.prototype, "read32").mockImplementation(() => 0);
    await expect(machine({ preset: qemu11Q35 })).rejects.toThrow(
      "ETIMEDOUT: dmar0: GSTS.QIES does not become 1 after GCMD.QIE",
    );
    read32.mockRestore();
  });

  it("says why processes cannot be shared, as Linux does at boot", async () => {
    const m = await machine({ preset: withFields(sapphireRapidsLike, { cap: { FS1GP: 0 } }) });
    expect(m.log).toContain("DMAR: dmar0 SVM disabled, incompatible 1GB page capability");
  });

  it("refuses a unit without what it needs, and a preset that does not exist", async () => {
    await expect(machine({ preset: withFields(qemu11Q35, { ecap: { QI: 0 } }) })).rejects.toThrow(IommuError);
    for (const name of ["pentium", "toString"])
      expect(() => vtd({ preset: name as VtdPresetName })).toThrow(
        `EINVAL: no preset "${name}"; there are qemu-11-q35`,
      );
  });

  it("tells two units of one platform apart", async () => {
    const platform = await createPlatform({ iommus: [vtd(), vtd({ preset: qemu11Q35 })] });
    expect(platform.iommus.map(({ name }) => name)).toEqual(["vtd", "vtd.1"]);
    expect(platform.kernel.log).toContain("DMAR: dmar1: Using Queued invalidation");
    expect(platform.iommus[0].ops).not.toBe(platform.iommus[1].ops);
  });
});
