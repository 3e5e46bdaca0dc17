import { type AddressSpace, IOMMU_SVA_FEAT_IOPF } from "@iommukit/core";
import { type DmaMachine, dmaMachine, perhaps, program, type ScenarioDefinition, scenario } from "../kit.js";

/** How long the device driver's mm_exit takes. */
const STOP = 50_000;

/** A device driver stops its device slowly, while two others wait for the same bond to go. */
export const exitWaiters: ScenarioDefinition = scenario({
  name: "exit-waiters",
  summary: "a process exits, its bond is unbound, and the device is shut down, all while mm_exit runs",
  finds: { "S-8": undefined },
  boot: dmaMachine,
  async prepare(m) {
    const { sva, scheduler } = m.platform;
    const app = program(m, "app");
    await sva.iommuSvaDeviceInit(m.device, IOMMU_SVA_FEAT_IOPF, 0, async () => {
      await scheduler.sleep(STOP);
      return 0;
    });
    const pasid = await bind(m, app.memory);
    return {
      actors: {
        exit: () => app.task.exit(),
        unbind: () => perhaps(sva.iommuSvaUnbindDevice(m.device, pasid)),
        shutdown: () => perhaps(sva.iommuSvaDeviceShutdown(m.device)),
      },
    };
  },
});

function bind({ platform, device }: DmaMachine, mm: AddressSpace): Promise<number> {
  return platform.sva.iommuSvaBindDevice(device, mm, IOMMU_SVA_FEAT_IOPF);
}
