import { container, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

const PAGE = 4096n;

/** The device reads and writes a process's memory while the process unmaps it. */
export const unmapDma: ScenarioDefinition = scenario({
  name: "unmap-dma",
  summary: "a device works on a bound process's memory while the process unmaps it",
  finds: { "L-1": ["smmuv3"], "L-2": ["smmuv3"], "L-20": ["vtd"] },
  boot: vfioMachine,
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const pasid = await vfio.bind();
    const at = await app.memory.mmap({ length: 2 * 4096, populate: true });
    m.device.pci.writeConfig(4, 2, 6);
    await m.dma.dma.write(pasid, at, new Uint8Array(8), { onFault: "report" });
    return {
      actors: {
        unmap: () => app.memory.munmap(at, 2 * 4096),
        device: async () => {
          for (let i = 0n; i < 3n; i++)
            await m.dma.dma.write(pasid, at + (i % 2n) * PAGE, new Uint8Array(8), { onFault: "report" });
        },
      },
      settle: () => app.task.exit(),
    };
  },
});
