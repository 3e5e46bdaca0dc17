import { NO_PASID } from "@iommukit/core";
import { DmaStatus, dmaStatusName } from "@iommukit/pci-device";
import { container, faultsOf, probe, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

const IOVA = 0x10_0000n;

/** DMA that was fine before a BIND and after it is fine while the entries change (G38). */
export const bindDma: ScenarioDefinition = scenario({
  name: "bind-dma",
  summary: "a device works on mapped memory while a process is bound and unbound",
  finds: { "L-11": ["vtd"], "L-12": ["vtd"] },
  boot: vfioMachine,
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const vaddr = await app.memory.mmap({ length: 4096, populate: true });
    await vfio.mapDma({ iova: IOVA, vaddr, size: 4096 });
    const faults = faultsOf(m);
    const failed: string[] = [];
    return {
      actors: {
        bind: async () => {
          await vfio.bind();
          await vfio.unbind();
        },
        device: async () => {
          for (let i = 0; i < 3; i++) {
            const status = await probe(m.dma, NO_PASID, IOVA);
            if (status !== DmaStatus.OK) failed.push(`a write to mapped memory ended with ${dmaStatusName(status)}`);
          }
        },
      },
      settle: () => app.task.exit(),
      check: () => [...failed, ...faults()],
    };
  },
});
