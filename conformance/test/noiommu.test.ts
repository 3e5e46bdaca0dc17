/** A device without an IOMMU: its addresses are the machine's, and it knows neither PASIDs nor translations of its own. */
import { createPlatform, NO_PASID } from "@iommukit/core";
import { accelerator, dmaStatusName, type PciDevice } from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";

const BDF = "0000:01:00.0";

describe("a device behind no IOMMU", () => {
  it("reads and writes physical memory, raises messages, and gets nothing with a PASID (F5)", async () => {
    const platform = await createPlatform({ iommus: [], devices: [accelerator({ bdf: BDF })] });
    const { dma } = platform.device(BDF).pci as PciDevice;
    platform.device(BDF).pci.writeConfig(4, 2, 6);
    await platform.run(async () => {
      const page = platform.pages.alloc(1, "buffer");
      expect((await dma.write(NO_PASID, BigInt(page), Uint8Array.of(1, 2, 3))).done).toBe(3);
      const bytes = new Uint8Array(3);
      platform.bus.read(page, bytes);
      expect([...bytes]).toEqual([1, 2, 3]);
      expect(dmaStatusName((await dma.read(1, BigInt(page), bytes)).status)).not.toBe("OK");
      platform.pages.free(page);
    });
    expect(await platform.close()).toEqual([]);
  });
});
