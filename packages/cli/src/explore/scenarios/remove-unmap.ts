import { container, probe, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** Nobody answers an invalidation of a device that is not there any more: the driver gives up in bounded time (L-24). */
export const removeUnmap: ScenarioDefinition = scenario({
  name: "remove-unmap",
  summary: "a device is pulled out while the process that it is bound to unmaps memory",
  finds: { "L-24": ["vtd"] },
  // An ATS invalidation times out after a minute and a half.
  timeLimit: 400e9,
  oneShot: true,
  boot: vfioMachine,
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const pasid = await vfio.bind();
    const at = await app.memory.mmap({ length: 4096, populate: true });
    await probe(m.dma, pasid, at);
    return {
      actors: {
        pull: async () => m.dma.remove(),
        unmap: () => app.memory.munmap(at, 4096),
      },
      settle: () => app.task.exit(),
    };
  },
});
