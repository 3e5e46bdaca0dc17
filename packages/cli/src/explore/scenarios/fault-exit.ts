import { container, program, type ScenarioDefinition, scenario, vfioMachine } from "../kit.js";

/** The device faults in pages of a process that exits; then the PASID belongs to another. */
export const faultExit: ScenarioDefinition = scenario({
  name: "fault-exit",
  summary: "a device faults in pages of a process while it exits, and another process is bound",
  finds: { "L-3": undefined, "L-13": undefined, "S-18": undefined },
  boot: vfioMachine,
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const first = program(m, "first");
    const second = program(m, "second");
    const pasid = await vfio.bind({ pid: first.task.pid });
    const at = await first.memory.mmap({ length: 4 * 4096 });
    m.device.pci.writeConfig(4, 2, 6);
    return {
      actors: {
        device: async () => {
          for (let i = 0; i < 2; i++) await m.dma.dma.write(pasid, at + BigInt(i * 4096), new Uint8Array(8));
        },
        exit: () => first.task.exit(),
        bind: () => vfio.bind({ pid: second.task.pid }),
      },
      async settle() {
        await second.task.exit();
        await owner.task.exit();
      },
    };
  },
});
