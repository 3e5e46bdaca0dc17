import { IommuError } from "@iommukit/core";
import { container, initialised, perhaps, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

const FUNCTIONS = ["0000:01:00.0", "0000:01:00.1"];

/**
 * Two functions that can reach each other, the second of which cannot be initialised: BIND is refused, whatever it did before. The
 * drivers here refuse PASIDs without ACS, so one that does not stands in for them.
 */
export const bindGroupOfTwo: ScenarioDefinition = scenario({
  name: "bind-group-of-two",
  summary: "a process is bound to a group of two functions, of which the driver refuses the second",
  finds: { "S-4+S-1": undefined },
  async boot(backend, options) {
    const devices = FUNCTIONS.map((bdf) => ({ bdf, multiFunction: true }));
    const m = await vfioMachine(backend, options, { devices });
    const { ops } = m.platform.iommus[0];
    ops.svaDeviceInit = async (dev) => {
      if (dev.name === FUNCTIONS[1]) throw new IommuError("ENODEV", `${dev.name} is broken`);
    };
    ops.svaDeviceShutdown = async () => {};
    return m;
  },
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    let left: readonly string[] = [];
    return {
      actors: {
        bind: async () => {
          if ((await perhaps(vfio.bind())) === undefined) left = initialised(m);
        },
      },
      settle: () => owner.task.exit(),
      check: () => left.map((sentence) => `BIND was refused, and ${sentence}`),
    };
  },
});
