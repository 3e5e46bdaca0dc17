import { VfioContainer } from "@iommukit/vfio-type1";
import { BDF, enable, probe, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** An invalidation that a reset swallows costs a minute; the longest wait for pending transactions is 1.5 s (pcie_flr). */
const PATIENCE = 2e9;
/** What PCIe allows: the function answers nothing meanwhile (6.6.2). */
const RESET_TIME = 100e6;

/** A reset waits for the device's transactions, and the IOMMU does not ask a device that is in one (L-23). */
export const resetUnmap: ScenarioDefinition = scenario({
  name: "reset-unmap",
  summary: "a device is reset while it works on memory that its process unmaps",
  finds: { "L-23": ["vtd"] },
  timeLimit: 400e9,
  boot: (backend, options) => vfioMachine(backend, options, { devices: [{ bdf: BDF, resetTime: RESET_TIME }] }),
  async prepare(m) {
    const { scheduler } = m.platform;
    const app = program(m, "app");
    const vfio = await VfioContainer.open(app.task);
    const group = await vfio.attach(m.device.group?.id ?? -1);
    await vfio.setIommu();
    const file = await group.device(BDF);
    enable(m);
    const pasid = await vfio.bind();
    const at = await app.memory.mmap({ length: 4096, populate: true });
    await probe(m.dma, pasid, at);
    let took = 0;
    return {
      actors: {
        device: () => probe(m.dma, pasid, at),
        reset: () => file.reset(),
        unmap: async () => {
          const start = scheduler.now;
          await app.memory.munmap(at, 4096);
          took = scheduler.now - start;
        },
      },
      settle: () => app.task.exit(),
      check: () => (took <= PATIENCE ? [] : [`munmap took ${took / 1e9} s`]),
    };
  },
});
