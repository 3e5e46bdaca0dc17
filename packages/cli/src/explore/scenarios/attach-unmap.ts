import { IommuProt, iommuMap, iommuUnmap, NO_PASID } from "@iommukit/core";
import { dmaOf } from "../dma-device.js";
import { dmaMachine, OTHER_BDF, probe, type ScenarioDefinition, scenario, TWO_DEVICES } from "../kit.js";

const IOVA = 0x10_0000n;

/** A device with ATS joins a domain while a mapping of it goes: what it took from the stale IOTLB is invalidated as well. */
export const attachUnmap: ScenarioDefinition = scenario({
  name: "attach-unmap",
  summary: "a second device joins a domain while a mapping is taken out of it",
  finds: { "L-2": ["smmuv3"] },
  boot: (backend, options) => dmaMachine(backend, options, { devices: TWO_DEVICES }),
  async prepare({ platform, device, dma }) {
    const [{ ops }] = platform.iommus;
    const other = platform.device(OTHER_BDF);
    const domain = ops.domainAlloc("unmanaged", device);
    const page = platform.pages.alloc(1, "buffer");
    const join = async (joining: typeof device) => {
      if (joining.group) await platform.groups.attachGroup(domain, joining.group);
    };
    await join(device);
    await iommuMap(domain, IOVA, page, 0x1000n, IommuProt.READ | IommuProt.WRITE);
    // The IOTLB knows the page.
    await probe(dma, NO_PASID, IOVA);
    const probeOther = () => probe(dmaOf(other), NO_PASID, IOVA);
    return {
      actors: {
        unmap: async () => {
          await iommuUnmap(domain, IOVA, 0x1000n);
          await probeOther();
        },
        attach: async () => {
          await join(other);
          await probeOther();
        },
      },
      async settle() {
        for (const { group } of [device, other]) if (group) await platform.groups.detachGroup(domain, group);
        ops.domainFree(domain);
        platform.pages.free(page);
      },
    };
  },
});
