import { PRESETS, smmuv3 } from "@iommukit/iommu-smmuv3";
import { container, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

const PAGES = 1024;
const RIL = 1 << 10;
/** CMDQ_MAX_TLBI_OPS: more commands than for this many pages are one for the whole address space. */
const MOST = 512;

/** A large unmap without range invalidation takes a bounded number of commands. */
export const unmapLarge: ScenarioDefinition = scenario({
  name: "unmap-large",
  summary: "a process unmaps 4 MiB behind an SMMU without range invalidation",
  finds: { "L-25": ["smmuv3"] },
  backends: ["smmuv3"],
  boot(backend, options) {
    const usual = PRESETS["mmu-700-like"];
    return vfioMachine(backend, options, {
      iommu: smmuv3({ preset: { ...usual, idr3: usual.idr3 & ~RIL }, queueShift: 7 }),
    });
  },
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    await vfio.bind();
    const at = await app.memory.mmap({ length: PAGES * 4096, populate: true });
    let commands = 0;
    const stop = m.platform.trace.on("command:consumed", ({ command }) => {
      if (command.startsWith("CMD_TLBI")) commands++;
    });
    return {
      actors: { unmap: () => app.memory.munmap(at, PAGES * 4096) },
      async settle() {
        stop();
        await app.task.exit();
      },
      check: () => (commands <= MOST ? [] : [`one munmap took ${commands} TLB invalidation commands`]),
    };
  },
});
