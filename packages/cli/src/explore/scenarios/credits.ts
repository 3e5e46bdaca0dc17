import { IOMMU_SVA_FEAT_IOPF } from "@iommukit/core";
import { dmaMachine, program, type ScenarioDefinition, scenario, store } from "../kit.js";

const PECTL = 0xe0;
const MASKED = 0x8000_0000;

/** A device that keeps to the credits that the driver gave it never overflows the queue (L-16). */
export const credits: ScenarioDefinition = scenario({
  name: "credits",
  summary: "a device uses all of its page request credits while the driver hears of none",
  finds: { "L-16": ["vtd"] },
  backends: ["vtd"],
  boot: (backend, options) =>
    dmaMachine(backend, options, { devices: [{ bdf: "0000:01:00.0", function: { pri: { capacity: 512 } } }] }),
  async prepare(m) {
    const { sva, iommus, scheduler, kernel } = m.platform;
    const app = program(m, "app");
    await sva.iommuSvaDeviceInit(m.device, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
    const pasid = await sva.iommuSvaBindDevice(m.device, app.memory, IOMMU_SVA_FEAT_IOPF);
    const allocation = m.dma.pri?.allocation ?? 0;
    const at = await app.memory.mmap({ length: 512 * 4096 });
    const [{ chip }] = iommus;
    const before = kernel.log.length;
    chip.write32(PECTL, MASKED);
    return {
      actors: {
        device: async () => {
          for (let i = 0; i < allocation; i++)
            scheduler.spawn(`request ${i}`, async () => void (await store(m.dma, pasid, at + BigInt(i * 4096))));
          await scheduler.sleep(1000);
          chip.write32(PECTL, 0);
        },
      },
      async settle() {
        await scheduler.idle();
        await app.task.exit();
        await sva.iommuSvaDeviceShutdown(m.device);
      },
      check: () =>
        kernel.log
          .slice(before)
          .filter((line) => line.includes("overflow"))
          .map((line) => `a device that kept to its ${allocation} credits filled the queue: "${line}"`),
    };
  },
});
