import { container, perhaps, program, type ScenarioDefinition, type VfioMachine, vfioMachine } from "../kit.js";

/** One process is bound, exits and is unbound, by three threads at once. */
export const bindExitUnbind: ScenarioDefinition = {
  name: "bind-exit-unbind",
  summary: "a program binds and unbinds a process while that process exits",
  finds: {},
  make: (backend) => ({
    boot: (options) => vfioMachine(backend, options),
    async prepare(machine) {
      const m = machine as VfioMachine;
      const owner = program(m, "owner");
      const vfio = await container(m, owner.task);
      const app = program(m, "app");
      const { pid } = app.task;
      await vfio.bind({ pid });
      return {
        actors: {
          exit: () => app.task.exit(),
          unbind: () => perhaps(vfio.unbind({ pid })),
          bind: () => perhaps(vfio.bind({ pid })),
        },
        settle: () => owner.task.exit(),
      };
    },
  }),
};
