import { container, faultsOf, program, type ScenarioDefinition, scenario, store, vfioMachine } from "../kit.js";

/** The device faults in pages of a process that exits; then the PASID belongs to another. Nothing may be recorded (C9, C10). */
export const faultExit: ScenarioDefinition = scenario({
  name: "fault-exit",
  summary: "a device faults in pages of a process while it exits, and another process is bound",
  finds: { "L-3": undefined, "L-9": ["vtd"], "L-13": undefined },
  boot: vfioMachine,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const first = program(m, "first");
    const second = program(m, "second");
    const pasid = await vfio.bind({ pid: first.task.pid });
    const at = await first.memory.mmap({ length: 4 * 4096 });
    const faults = faultsOf(m);
    return {
      actors: {
        device: async () => {
          for (let page = 0n; page < 2; page++) await store(m.dma, pasid, at + page * 4096n);
        },
        exit: () => first.task.exit(),
        bind: () => vfio.bind({ pid: second.task.pid }),
      },
      async settle() {
        await second.task.exit();
        await owner.task.exit();
      },
      check: faults,
    };
  },
});
