import { DmaStatus, dmaStatusName } from "@iommukit/pci-device";
import { container, program, type ScenarioDefinition, scenario, store, vfioMachine } from "../kit.js";

/** A device below the stack: the CPU would grow it, a device must not (E7). */
export const stackFault: ScenarioDefinition = scenario({
  name: "stack-fault",
  summary: "a device touches the page below a process's stack",
  finds: { "S-17": undefined },
  boot: vfioMachine,
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const pasid = await vfio.bind();
    const stack = await app.memory.mmap({ length: 4096, growsDown: true, populate: true });
    let status: number = DmaStatus.INVALID_PAGE;
    return {
      actors: {
        device: async () => {
          status = await store(m.dma, pasid, stack - 8n);
        },
      },
      settle: () => app.task.exit(),
      check: () =>
        status === DmaStatus.INVALID_PAGE ? [] : [`a write below the stack ended with ${dmaStatusName(status)}`],
    };
  },
});
