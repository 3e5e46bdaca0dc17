import { container, perhaps, probe, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** A device uses its PASID for the first time while it is taken away: whatever it fetches was a whole entry (I-6). */
export const firstAccess: ScenarioDefinition = scenario({
  name: "first-access",
  summary: "a device uses a PASID for the first time while the process is unbound",
  finds: { "L-7": ["vtd"] },
  boot: vfioMachine,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const app = program(m, "app");
    const { pid } = app.task;
    const pasid = await vfio.bind({ pid });
    const at = await app.memory.mmap({ length: 4096, populate: true });
    return {
      actors: {
        unbind: () => perhaps(vfio.unbind({ pid })),
        device: () => probe(m.dma, pasid, at),
      },
      async settle() {
        await app.task.exit();
        await owner.task.exit();
      },
    };
  },
});
