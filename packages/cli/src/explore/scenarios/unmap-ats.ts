import { NO_PASID } from "@iommukit/core";
import { dmaOf } from "../dma-device.js";
import { container, OTHER_BDF, perhaps, probe, program, type ScenarioDefinition, scenario, vfioPair } from "../kit.js";

const IOVA = 0x10_0000n;

/** A mapping of two devices goes while a BIND turns their ATS on: what they cached meanwhile is invalidated as well. */
export const unmapAts: ScenarioDefinition = scenario({
  name: "unmap-ats",
  summary: "a mapping of two devices is unmapped while a bind turns their ATS on",
  finds: { "L-20": ["vtd"] },
  boot: vfioPair,
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task, [...m.platform.devices.values()]);
    const vaddr = await app.memory.mmap({ length: 4096, populate: true });
    await vfio.mapDma({ iova: IOVA, vaddr, size: 4096 });
    const devices = [m.dma, dmaOf(m.platform.device(OTHER_BDF))];
    const probeAll = async () => {
      for (const device of devices) await probe(device, NO_PASID, IOVA);
    };
    // The IOTLB knows the page before anybody unmaps it.
    await probeAll();
    return {
      actors: {
        unmap: async () => {
          await perhaps(vfio.unmapDma({ iova: IOVA, size: 4096 }));
          await probeAll();
        },
        bind: async () => {
          await vfio.bind();
          await probeAll();
        },
        device: probeAll,
      },
      settle: () => app.task.exit(),
    };
  },
});
