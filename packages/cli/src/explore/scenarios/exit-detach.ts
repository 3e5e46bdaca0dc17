import { container, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** The bound process exits (mm_exit) while the owner of the container closes it (detach waits for mm_exit). */
export const exitDetach: ScenarioDefinition = scenario({
  name: "exit-detach",
  summary: "a bound process exits while the container that it is bound to is closed",
  finds: { "S-2": undefined },
  boot: vfioMachine,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const app = program(m, "app");
    await vfio.bind({ pid: app.task.pid });
    return { actors: { exit: () => app.task.exit(), close: () => owner.task.exit() } };
  },
});
