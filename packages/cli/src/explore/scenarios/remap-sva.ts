import { container, probe, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

const PAGES = 4;
const SIZE = PAGES * 4096;

/** The device works on a bound process's memory while the process takes it away and puts other pages there. */
export const remapSva: ScenarioDefinition = scenario({
  name: "remap-sva",
  summary: "a device works on a bound process's memory while the process unmaps it and maps it anew",
  finds: { "L-1": ["smmuv3"], "L-19": ["vtd"], "L-22": ["vtd"] },
  boot: vfioMachine,
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const pasid = await vfio.bind();
    // A table of its own, and an address that is no multiple of the range's size.
    const address = 0x4000_0000n + 0x3000n;
    const map = () => app.memory.mmap({ length: SIZE, address, populate: true });
    await map();
    await probe(m.dma, pasid, address);
    return {
      actors: {
        remap: async () => {
          await app.memory.munmap(address, SIZE);
          await map();
        },
        device: async () => {
          for (let page = 0n; page < PAGES; page++) await probe(m.dma, pasid, address + page * 4096n);
        },
      },
      settle: () => app.task.exit(),
    };
  },
});
