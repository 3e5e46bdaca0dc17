import { IOMMU_SVA_FEAT_IOPF } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { EXPLORED_BACKENDS } from "../backends.js";
import { BDF, dmaMachine, faultsOf, probe, program, type ScenarioDefinition, scenario } from "../kit.js";

/** An SMMU refuses translation requests without an event, so the device there stalls instead. */
const STALLING = { bdf: BDF, function: { ats: undefined, pri: undefined } };

/** With mainline's core nobody stops the device when the process exits: what it does until it is unbound fails in silence (C9, C10). */
export const exitMainline: ScenarioDefinition = scenario({
  name: "exit-mainline",
  summary: "a process exits while a device works on its memory, and is unbound later; mainline's core",
  finds: { "L-9": ["smmuv3"] },
  boot: (backend, options) =>
    dmaMachine(backend, options, {
      sva: "mainline",
      iommu: backend === "smmuv3" ? smmuv3({ queueShift: 7, canStall: () => true }) : EXPLORED_BACKENDS.vtd(),
      devices: [backend === "smmuv3" ? STALLING : { bdf: BDF }],
    }),
  async prepare(m) {
    const { sva } = m.platform;
    const app = program(m, "app");
    await sva.iommuSvaDeviceInit(m.device, IOMMU_SVA_FEAT_IOPF, 0);
    const pasid = await sva.iommuSvaBindDevice(m.device, app.memory, IOMMU_SVA_FEAT_IOPF);
    const at = await app.memory.mmap({ length: 4096, populate: true });
    const faults = faultsOf(m);
    let recorded: readonly string[] = [];
    return {
      actors: {
        exit: () => app.task.exit(),
        device: async () => {
          for (let i = 0; i < 3; i++) await probe(m.dma, pasid, at);
        },
      },
      async settle() {
        await probe(m.dma, pasid, at);
        recorded = faults();
        await sva.iommuSvaUnbindDevice(m.device, pasid);
        await sva.iommuSvaDeviceShutdown(m.device);
      },
      check: () => recorded,
    };
  },
});
