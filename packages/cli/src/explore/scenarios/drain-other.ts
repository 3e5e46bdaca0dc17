import { IOMMU_SVA_FEAT_IOPF } from "@iommukit/core";
import { dmaOf } from "../dma-device.js";
import { dmaMachine, OTHER_BDF, program, type ScenarioDefinition, scenario, store, TWO_DEVICES } from "../kit.js";

const PECTL = 0xe0;
const MASKED = 0x8000_0000;

/** One process on two devices: unbinding one does not wait for the other's requests. */
export const drainOther: ScenarioDefinition = scenario({
  name: "drain-other",
  summary: "a process is unbound from one device while the requests of another, with the same PASID, wait",
  finds: { "L-14": ["vtd"] },
  backends: ["vtd"],
  boot: (backend, options) => dmaMachine(backend, options, { devices: TWO_DEVICES }),
  async prepare(m) {
    const { sva, iommus } = m.platform;
    const [{ chip }] = iommus;
    const app = program(m, "app");
    const devices = [m.device, m.platform.device(OTHER_BDF)];
    let pasid = 0;
    for (const device of devices) {
      await sva.iommuSvaDeviceInit(device, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
      pasid = await sva.iommuSvaBindDevice(device, app.memory, IOMMU_SVA_FEAT_IOPF);
    }
    const at = await app.memory.mmap({ length: 4096 });
    // The driver hears of no request for as long as the event is masked.
    chip.write32(PECTL, MASKED);
    let answered = false;
    return {
      actors: {
        other: async () => {
          await store(dmaOf(devices[1]), pasid, at);
          answered = true;
        },
        unbind: async () => {
          await sva.iommuSvaUnbindDevice(devices[0], pasid);
          if (!answered) chip.write32(PECTL, 0);
        },
      },
      async settle() {
        await app.task.exit();
        for (const device of devices) await sva.iommuSvaDeviceShutdown(device);
      },
    };
  },
});
