import { container, perhaps, program, type ScenarioDefinition, scenario, store, vfioMachine } from "../kit.js";

/** The owner unbinds a process whose pages the device is faulting in: the drain waits for workers that need locks. */
export const faultUnbind: ScenarioDefinition = scenario({
  name: "fault-unbind",
  summary: "a device faults in pages of a process while it is unbound",
  finds: { "L-5": undefined, "S-18": undefined },
  boot: vfioMachine,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const app = program(m, "app");
    const { pid } = app.task;
    const pasid = await vfio.bind({ pid });
    const at = await app.memory.mmap({ length: 4 * 4096 });
    return {
      actors: {
        device: async () => {
          for (let page = 0n; page < 2; page++) await store(m.dma, pasid, at + page * 4096n);
        },
        unbind: () => perhaps(vfio.unbind({ pid })),
      },
      async settle() {
        await app.task.exit();
        await owner.task.exit();
      },
    };
  },
});
