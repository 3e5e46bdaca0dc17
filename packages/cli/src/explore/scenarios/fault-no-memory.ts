import { container, program, type ScenarioDefinition, scenario, store, vfioMachine } from "../kit.js";

/** Page faults while memory runs out: each group is answered all the same (E13). */
export const faultNoMemory: ScenarioDefinition = scenario({
  name: "fault-no-memory",
  summary: "a device faults in pages while memory runs out",
  finds: { "S-15": undefined },
  allocationsFail: true,
  boot: (backend, options) =>
    vfioMachine(backend, options, { devices: [{ bdf: "0000:01:00.0", dma: { pagesPerRequest: 2 } }] }),
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const pasid = await vfio.bind();
    const at = await app.memory.mmap({ length: 4 * 4096 });
    return {
      actors: { device: () => store(m.dma, pasid, at + 4092n), other: () => store(m.dma, pasid, at + 8192n) },
      settle: () => app.task.exit(),
    };
  },
});
