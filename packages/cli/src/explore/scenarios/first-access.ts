import {
  container,
  faultsOf,
  perhaps,
  probe,
  program,
  type ScenarioDefinition,
  scenario,
  vfioMachine,
} from "../kit.js";

/** What VT-d records of a PASID that has been taken away. */
const NOT_PRESENT = "0x59";

/**
 * A device uses its PASID for the first time while it is taken away: the entry that is fetched is the process's or none, never a
 * half of it (I-6). Nobody has stopped the device, so a fault that says "not present" is right.
 */
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
    const faults = faultsOf(m);
    return {
      actors: {
        unbind: () => perhaps(vfio.unbind({ pid })),
        device: () => probe(m.dma, pasid, at),
      },
      async settle() {
        await app.task.exit();
        await owner.task.exit();
      },
      check: () => faults().filter((sentence) => !sentence.startsWith(NOT_PRESENT)),
    };
  },
});
