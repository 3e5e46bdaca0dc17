import { IOMMU_SVA_FEAT_IOPF } from "@iommukit/core";
import { DmaStatus, dmaStatusName } from "@iommukit/pci-device";
import { dmaMachine, perhaps, program, type ScenarioDefinition, scenario, store } from "../kit.js";

/** Somebody initialises SVA a second time, and is refused: the first user's page faults go on. */
export const initTwice: ScenarioDefinition = scenario({
  name: "init-twice",
  summary: "a second initialisation is refused while a device faults in pages",
  finds: { "S-11": undefined },
  boot: dmaMachine,
  async prepare(m) {
    const { sva } = m.platform;
    const app = program(m, "app");
    await sva.iommuSvaDeviceInit(m.device, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
    const pasid = await sva.iommuSvaBindDevice(m.device, app.memory, IOMMU_SVA_FEAT_IOPF);
    const at = await app.memory.mmap({ length: 4096 });
    let status: number = DmaStatus.OK;
    return {
      actors: {
        device: async () => {
          status = await store(m.dma, pasid, at);
        },
        init: () => perhaps(sva.iommuSvaDeviceInit(m.device, 0, 0)),
      },
      async settle() {
        await app.task.exit();
        await sva.iommuSvaDeviceShutdown(m.device);
      },
      check: () => (status === DmaStatus.OK ? [] : [`the device's write ended with ${dmaStatusName(status)}`]),
    };
  },
});
