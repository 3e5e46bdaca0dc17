import { Access, IommuProt, iommuMap, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { type Machine, machine, withFields } from "./machine.js";

const RW = IommuProt.READ | IommuProt.WRITE;

async function mapped(m: Machine) {
  const device = await m.plug();
  const domain = device.dev.group?.domain;
  if (!domain) throw new Error("no default domain");
  await iommuMap(domain, 0x1000n, 0x1_0020_1000, 0x4000n, RW);
  await iommuMap(domain, 0x40_0000n, 0x1_0040_0000, 0x20_0000n, RW);
  return { device, domain };
}

describe("dirty tracking", () => {
  it("names the leaves that were written since the last time, whatever their size (SSADE)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, domain } = await mapped(m);
      m.translate(device, 0x1000n, Access.WRITE);
      await m.ops.setDirtyTracking(domain, true);
      m.translate(device, 0x2000n, Access.WRITE);
      m.translate(device, 0x3000n, Access.READ);
      m.translate(device, 0x41_2345n, Access.WRITE);
      const everything = () => m.ops.readAndClearDirty(domain, 0n, 0x100_0000n);
      expect(await everything()).toEqual([
        { iova: 0x2000n, size: 0x1000 },
        { iova: 0x40_0000n, size: 0x20_0000 },
      ]);
      expect(await everything()).toEqual([]);
      // A page that stayed in the caches is seen again: reading cleared them.
      expect(m.translate(device, 0x2000n, Access.WRITE)[0]).toBe(TranslationStatus.OK);
      expect(await everything()).toEqual([{ iova: 0x2000n, size: 0x1000 }]);
    });
    expect(m.faults()).toEqual([]);
  });

  it("is for devices that come later too, and stops when it is switched off", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device } = await mapped(m);
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      await iommuMap(domain, 0x1000n, 0x1_0020_1000, 0x2000n, RW);
      await m.ops.setDirtyTracking(domain, true);
      const group = device.dev.group;
      if (!group) throw new Error("no group");
      await m.platform.groups.attachGroup(domain, group);
      m.translate(device, 0x1000n, Access.WRITE);
      expect((await m.ops.readAndClearDirty(domain, 0x1000n, 0x1000n)).length).toBe(1);
      await m.ops.setDirtyTracking(domain, false);
      await expect(m.ops.readAndClearDirty(domain, 0x1000n, 0x1000n)).rejects.toThrow("EINVAL");
      await m.ops.setDirtyTracking(domain, true);
      await expect(m.ops.readAndClearDirty(domain, 0x1001n, 0x1000n)).rejects.toThrow("EINVAL");
    });
  });

  it.each([
    ["legacy mode", qemu11Q35],
    ["a unit without SSADS", withFields(sapphireRapidsLike, { ecap: { SSADS: 0 } })],
    ["a first stage", withFields(sapphireRapidsLike, { ecap: { SSTS: 0 } })],
  ])("is refused with EOPNOTSUPP in %s", async (_what, preset) => {
    const m = await machine({ preset });
    await m.run(async () => {
      const { device, domain } = await mapped(m);
      expect(m.ops.capable(device.dev, "dirty-tracking")).toBe(false);
      await expect(m.ops.setDirtyTracking(domain, true)).rejects.toThrow("EOPNOTSUPP");
    });
  });
});
