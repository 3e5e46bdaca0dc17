import { NO_PASID } from "@iommukit/core";
import { PRESETS, smmuv3 } from "@iommukit/iommu-smmuv3";
import { BDF, container, faultsOf, probe, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

const IOVA = 0x10_0000n;
/** A translation request is refused without an event. */
const WITHOUT_ATS = { bdf: BDF, function: { ats: undefined, pri: undefined } };
const STALL_MODEL_NONE = 1 << 24;
const STALL_MODEL = 3 << 24;

/** Mapped memory behind an SMMU without stalls: nothing in the entries may speak of them (G14, G17). */
export const noStalls: ScenarioDefinition = scenario({
  name: "no-stalls",
  summary: "a device works on mapped memory behind an SMMU that cannot stall",
  finds: { "L-26": ["smmuv3"] },
  backends: ["smmuv3"],
  boot(backend, options) {
    const usual = PRESETS["mmu-700-like"];
    const preset = { ...usual, idr0: (usual.idr0 & ~STALL_MODEL) | STALL_MODEL_NONE };
    return vfioMachine(backend, options, { iommu: smmuv3({ preset, queueShift: 7 }), devices: [WITHOUT_ATS] });
  },
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const vaddr = await app.memory.mmap({ length: 4096, populate: true });
    await vfio.mapDma({ iova: IOVA, vaddr, size: 4096 });
    const faults = faultsOf(m);
    return {
      actors: { device: () => probe(m.dma, NO_PASID, IOVA) },
      settle: () => app.task.exit(),
      check: faults,
    };
  },
});
