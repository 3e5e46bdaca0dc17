import { IOMMU_SVA_FEAT_IOPF } from "@iommukit/core";
import { dmaMachine, program, type ScenarioDefinition, scenario } from "../kit.js";

/** Where both processes have a page. */
const ADDRESS = 0x4000_0000n;
const PATTERN = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

/** mm_exit cannot stop the device: what it goes on writing with the PASID must never reach the next process (C4, S-10). */
export const exitUnstoppable: ScenarioDefinition = scenario({
  name: "exit-unstoppable",
  summary: "a device that cannot be stopped goes on writing after its process has exited, and another process is bound",
  finds: { "S-10": undefined },
  boot: dmaMachine,
  async prepare(m) {
    const { sva } = m.platform;
    const [first, second] = [program(m, "first"), program(m, "second")];
    await sva.iommuSvaDeviceInit(m.device, IOMMU_SVA_FEAT_IOPF, 0, async () => -1);
    const pasid = await sva.iommuSvaBindDevice(m.device, first.memory, IOMMU_SVA_FEAT_IOPF);
    for (const { memory } of [first, second]) await memory.mmap({ length: 4096, address: ADDRESS, populate: true });
    const seen = new Uint8Array(PATTERN.length);
    return {
      actors: {
        exit: async () => {
          await first.task.exit();
          await sva.iommuSvaBindDevice(m.device, second.memory, IOMMU_SVA_FEAT_IOPF);
        },
        device: async () => {
          for (let i = 0; i < 3; i++) await m.dma.dma.write(pasid, ADDRESS, PATTERN, { onFault: "report" });
        },
      },
      async settle() {
        await m.dma.dma.write(pasid, ADDRESS, PATTERN, { onFault: "report" });
        await second.memory.read(ADDRESS, seen);
        await second.task.exit();
        await sva.iommuSvaDeviceShutdown(m.device);
      },
      check: () =>
        seen.every((byte) => byte === 0)
          ? []
          : ["a write that was meant for the first process is in the second's memory"],
    };
  },
});
