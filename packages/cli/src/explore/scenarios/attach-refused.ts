import { IommuError, isErrno } from "@iommukit/core";
import { container, OTHER_BDF, program, type ScenarioDefinition, scenario, vfioPair } from "../kit.js";

/** The driver refuses to attach a group, and to attach it again where it was: the program hears the driver's errno. */
export const attachRefused: ScenarioDefinition = scenario({
  name: "attach-refused",
  summary: "a driver without memory refuses a group in the container's domain, and again in its own",
  finds: { "S-6": undefined },
  async boot(backend, options) {
    const m = { ...(await vfioPair(backend, options)), again: 0 };
    // The container's domain always; the group's own one when it comes back to it, if the scheduler says so.
    const refuses = (own: boolean) => !own || options.scheduler.choose(2, "attach is refused") === 1;
    const { ops } = m.platform.iommus[0];
    const attach = ops.attachDev.bind(ops);
    ops.attachDev = async (domain, dev) => {
      const own = domain !== m.device.group?.domain;
      if (dev.name === OTHER_BDF && domain.type === "unmanaged" && (!own || m.again++ > 0) && refuses(own))
        throw new IommuError("ENOMEM", `no memory to attach ${dev.name}`);
      await attach(domain, dev);
    };
    return m;
  },
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const wrong: string[] = [];
    m.again = 0;
    return {
      actors: {
        attach: async () => {
          try {
            await vfio.attach(m.platform.device(OTHER_BDF).group?.id ?? -1);
          } catch (error) {
            if (!isErrno(error)) throw error;
            if (error.code !== "ENOMEM") wrong.push(`the driver said ENOMEM, and SET_CONTAINER ${error.code}`);
          }
        },
      },
      settle: () => owner.task.exit(),
      check: () => wrong,
    };
  },
});
