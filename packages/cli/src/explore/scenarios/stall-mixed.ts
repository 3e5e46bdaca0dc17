import { NO_PASID } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { dmaOf } from "../dma-device.js";
import {
  container,
  faultsOf,
  OTHER_BDF,
  probe,
  program,
  type ScenarioDefinition,
  scenario,
  TWO_DEVICES,
  vfioMachine,
} from "../kit.js";

const IOVA = 0x10_0000n;

/** Of two devices in one domain one can stall: each gets the fault model that is legal for it (S-16, G17). */
export const stallMixed: ScenarioDefinition = scenario({
  name: "stall-mixed",
  summary: "a device that can stall and one that cannot share a domain",
  finds: { "S-16": ["smmuv3"] },
  backends: ["smmuv3"],
  boot: (backend, options) =>
    vfioMachine(backend, options, {
      iommu: smmuv3({ queueShift: 7, canStall: (bdf) => bdf !== OTHER_BDF }),
      devices: TWO_DEVICES.map((device) => ({ ...device, function: { ats: undefined, pri: undefined } })),
    }),
  async prepare(m) {
    const app = program(m, "app");
    // SET_IOMMU attaches the newest group first: the device that can stall.
    const vfio = await container(m, app.task, [...m.platform.devices.values()].reverse());
    const vaddr = await app.memory.mmap({ length: 4096, populate: true });
    await vfio.mapDma({ iova: IOVA, vaddr, size: 4096 });
    const faults = faultsOf(m);
    return {
      actors: {
        first: () => probe(m.dma, NO_PASID, IOVA),
        second: () => probe(dmaOf(m.platform.device(OTHER_BDF)), NO_PASID, IOVA),
      },
      settle: () => app.task.exit(),
      check: faults,
    };
  },
});
