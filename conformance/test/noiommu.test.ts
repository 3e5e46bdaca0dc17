/** A device without an IOMMU: its addresses are the machine's, and it knows neither PASIDs nor translations of its own. */
import { createPlatform, NO_PASID } from "@iommukit/core";
import { accelerator, dmaStatusName, type PciDevice } from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";

const BDF = "0000:01:00.0";

describe("a device behind no IOMMU", () => {
  it("reads and writes physical memory, and gets nothing with a PASID (F5)", async () => {
    const platform = await createPlatform({ iommus: [], devices: [accelerator({ bdf: BDF })] });
    const { dma } = platform.device(BDF).pci as PciDevice;
    platform.device(BDF).pci.writeConfig(4, 2, 6);
    await platform.run(async () => {
      const page = platform.pages.alloc(4, "buffer");
      const bytes = Uint8Array.from({ length: 4 * 4096 - 2 }, (_, i) => i % 251);
      expect((await dma.write(NO_PASID, BigInt(page + 1), bytes)).done).toBe(bytes.length);
      const [stored, read] = [new Uint8Array(bytes.length), new Uint8Array(bytes.length)];
      platform.bus.read(page + 1, stored);
      expect((await dma.read(NO_PASID, BigInt(page + 1), read)).done).toBe(bytes.length);
      expect([stored, read]).toEqual([bytes, bytes]);
      expect(dmaStatusName((await dma.read(1, BigInt(page), bytes)).status)).not.toBe("OK");
      platform.pages.free(page);
    });
    expect(await platform.close()).toEqual([]);
  });
});
