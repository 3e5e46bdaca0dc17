import { container, OTHER_BDF, program, type ScenarioDefinition, scenario, vfioPair } from "../kit.js";

/**
 * The bonds of a device are removed behind the container's back, as a hot unplug does, and the process exits; then a group joins
 * the container, which binds it to whatever it remembers.
 */
export const goneWhileBound: ScenarioDefinition = scenario({
  name: "gone-while-bound",
  summary: "a process whose bonds have been removed exits, and another group joins its container",
  finds: { "S-9": undefined },
  boot: vfioPair,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const app = program(m, "app");
    await vfio.bind({ pid: app.task.pid });
    return {
      actors: { remove: () => m.platform.sva.unbindDeviceAll(m.device), exit: () => app.task.exit() },
      async settle() {
        await vfio.attach(m.platform.device(OTHER_BDF).group?.id ?? -1);
        await owner.task.exit();
      },
    };
  },
});
