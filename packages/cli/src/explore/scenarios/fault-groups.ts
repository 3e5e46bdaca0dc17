import { DmaStatus, dmaStatusName } from "@iommukit/pci-device";
import { container, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** Transfers over several pages ask for all of them in one group: one answer for it, and the right one. */
export const faultGroups: ScenarioDefinition = scenario({
  name: "fault-groups",
  summary: "two transfers ask for groups of pages at once",
  finds: { "L-17": ["vtd"], "L-18": ["vtd"] },
  boot: (backend, options) =>
    vfioMachine(backend, options, { devices: [{ bdf: "0000:01:00.0", dma: { pagesPerRequest: 4 } }] }),
  async prepare(m) {
    const app = program(m, "app");
    const vfio = await container(m, app.task);
    const pasid = await vfio.bind();
    const at = await app.memory.mmap({ length: 8 * 4096 });
    const statuses: number[] = [];
    const write = async (address: bigint) => {
      const { status } = await m.dma.dma.write(pasid, address, new Uint8Array(4 * 4096));
      statuses.push(status);
    };
    return {
      actors: { first: () => write(at), second: () => write(at + 4n * 4096n) },
      settle: () => app.task.exit(),
      check: () =>
        statuses
          .filter((status) => status !== DmaStatus.OK)
          .map((status) => `a transfer ended with ${dmaStatusName(status)}`),
    };
  },
});
