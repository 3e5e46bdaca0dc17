import { container, initialised, perhaps, program, type ScenarioDefinition, scenario, vfioPair } from "../kit.js";

/** BIND on two groups while memory runs out: all or nothing, and nothing means nothing. */
export const bindNoMemory: ScenarioDefinition = scenario({
  name: "bind-no-memory",
  summary: "memory runs out while a process is bound to the two groups of a container",
  finds: { "S-1": undefined },
  allocationsFail: true,
  boot: vfioPair,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task, [...m.platform.devices.values()]);
    let left: readonly string[] = [];
    return {
      actors: {
        bind: async () => {
          const pasid = await perhaps(vfio.bind());
          if (pasid === undefined) left = initialised(m);
        },
      },
      settle: () => owner.task.exit(),
      check: () => left.map((sentence) => `BIND failed, and ${sentence}`),
    };
  },
});
