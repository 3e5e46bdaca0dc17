import { isErrno } from "@iommukit/core";
import { DmaStatus, dmaStatusName } from "@iommukit/pci-device";
import { vfioOf, vfioType1 } from "@iommukit/vfio-type1";
import { dmaMachine, groupContainer, program, type ScenarioDefinition, scenario, store } from "../kit.js";

/** Two mediated devices use the PASIDs of one parent: what one container does with SVA does not concern the other (S-7). */
export const mediatedPair: ScenarioDefinition = scenario({
  name: "mediated-pair",
  summary: "two containers, each with a mediated device of the same parent, are bound, and one of them is closed",
  finds: { "S-7": undefined },
  async boot(backend, options) {
    // A kernel driver has the parent, and VFIO what that driver makes of it.
    const m = await dmaMachine(backend, options, { services: [vfioType1({ devices: [] })] });
    m.device.driver = "parent";
    const vfio = vfioOf(m.platform);
    const groups = ["one", "two"].map((name) => vfio.registerEmulated(name, {}, m.device).group.iommuGroup.id);
    return { ...m, groups };
  },
  async prepare({ groups, ...m }) {
    const [first, second] = ["first", "second"].map((name) => program(m, name));
    const one = await groupContainer(first.task, groups[0]);
    const two = await groupContainer(second.task, groups[1]);
    const at = await second.memory.mmap({ length: 4096 });
    const wrong: string[] = [];
    const bound = async (who: string, bind: Promise<number>) => {
      try {
        return await bind;
      } catch (error) {
        if (!isErrno(error)) throw error;
        wrong.push(`BIND of the ${who} container was refused: ${error.message}`);
        return undefined;
      }
    };
    return {
      actors: {
        first: async () => {
          await bound("first", one.bind());
          await first.task.exit();
        },
        second: async () => {
          const pasid = await bound("second", two.bind());
          if (pasid === undefined) return;
          const status = await store(m.dma, pasid, at);
          if (status !== DmaStatus.OK) wrong.push(`the second container's device wrote with ${dmaStatusName(status)}`);
        },
      },
      settle: () => second.task.exit(),
      check: () => wrong,
    };
  },
});
