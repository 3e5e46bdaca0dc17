import { container, program, type ScenarioDefinition, type VfioMachine, vfioMachine } from "../kit.js";

/** The bound process exits (mm_exit) while the owner of the container closes it (detach waits for mm_exit). */
export const exitDetach: ScenarioDefinition = {
  name: "exit-detach",
  summary: "a bound process exits while the container that it is bound to is closed",
  finds: { "S-2": undefined },
  make: (backend) => ({
    boot: (options) => vfioMachine(backend, options),
    async prepare(machine) {
      const m = machine as VfioMachine;
      const owner = program(m, "owner");
      const vfio = await container(m, owner.task);
      const app = program(m, "app");
      await vfio.bind({ pid: app.task.pid });
      return { actors: { exit: () => app.task.exit(), close: () => owner.task.exit() } };
    },
  }),
};
