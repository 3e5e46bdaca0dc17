/** A device that is taken off: nothing of it answers any more, and its successor is another device (E16). */
import { createPlatform } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, type PciDevice } from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";

const BDF = "0000:01:00.0";

describe.each([
  ["smmuv3", smmuv3],
  ["vtd", vtd],
])("unplug behind %s", (_name, iommu) => {
  it("takes the BARs off the bus", async () => {
    const platform = await createPlatform({ iommus: [iommu()], devices: [accelerator({ bdf: BDF })] });
    const pci = platform.device(BDF).pci as PciDevice;
    const bar = pci.barAddress(0);
    expect(platform.bus.read(bar, new Uint8Array(4))).toBe(true);
    await platform.run(() => platform.unplug(BDF));
    expect(platform.bus.read(bar, new Uint8Array(4))).toBe(false);
    expect(pci.readConfig(0, 2)).toBe(0xffff);
    await platform.run(() => platform.plug(accelerator({ bdf: BDF })));
    expect(platform.device(BDF).pci).not.toBe(pci);
    expect(await platform.close()).toEqual([]);
  });

  it("lets a machine be closed twice", async () => {
    const platform = await createPlatform({ iommus: [iommu()], devices: [accelerator({ bdf: BDF })] });
    expect(await platform.close()).toEqual([]);
    expect(await platform.close()).toEqual([]);
  });
});
