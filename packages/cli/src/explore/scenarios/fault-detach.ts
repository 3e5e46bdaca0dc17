import { container, program, type ScenarioDefinition, scenario, store, vfioMachine } from "../kit.js";

/** The container is closed while the device faults in pages: each fault is answered, or its device is not there any more (L-6). */
export const faultDetach: ScenarioDefinition = scenario({
  name: "fault-detach",
  summary: "a device faults in pages of a process while the container that it is bound to is closed",
  finds: { "L-6": undefined },
  boot: vfioMachine,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const app = program(m, "app");
    const pasid = await vfio.bind({ pid: app.task.pid });
    const at = await app.memory.mmap({ length: 2 * 4096 });
    return {
      actors: {
        device: async () => {
          for (let page = 0n; page < 2; page++) await store(m.dma, pasid, at + page * 4096n);
        },
        close: () => owner.task.exit(),
      },
      settle: () => app.task.exit(),
    };
  },
});
