import { container, perhaps, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** One process is bound, exits and is unbound, by three threads at once. The container stays open from run to run. */
export const bindExitUnbind: ScenarioDefinition = scenario({
  name: "bind-exit-unbind",
  summary: "a program binds and unbinds a process while that process exits",
  finds: { "L-4": undefined, "L-21": undefined },
  async boot(backend, options) {
    const m = await vfioMachine(backend, options);
    const vfio = await m.platform.run(() => container(m, program(m, "owner").task));
    return { ...m, vfio };
  },
  async prepare({ vfio, ...m }) {
    const app = program(m, "app");
    const { pid } = app.task;
    await vfio.bind({ pid });
    return {
      actors: {
        exit: () => app.task.exit(),
        unbind: () => perhaps(vfio.unbind({ pid })),
        bind: () => perhaps(vfio.bind({ pid })),
      },
    };
  },
});
