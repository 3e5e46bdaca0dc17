import { IommuError, type Mm, WaitQueue } from "@iommukit/core";
import {
  container,
  initialised,
  OTHER_BDF,
  perhaps,
  program,
  type ScenarioDefinition,
  scenario,
  vfioPair,
} from "../kit.js";

/** Nanoseconds that the driver needs to refuse. */
const REFUSAL = 20_000;

/**
 * A group joins a container with three bound processes; its driver refuses the last of them, and one that the group has been bound
 * to already exits meanwhile: undoing its bond waits for mm_exit (S-3, which is S-2 in this place).
 */
export const replayRefused: ScenarioDefinition = scenario({
  name: "replay-refused",
  summary: "a group that the driver refuses to bind joins a container while a bound process exits",
  finds: { "S-2": undefined, "S-5": undefined },
  async boot(backend, options) {
    const asked = new WaitQueue(options.scheduler, "the driver to be asked");
    const m = { ...(await vfioPair(backend, options)), unwelcome: undefined as Mm | undefined, asked, refuses: false };
    const { ops } = m.platform.iommus[0];
    const attach = ops.mmAttach?.bind(ops);
    ops.mmAttach = async (domain, dev, ioMm, first) => {
      if (dev.name === OTHER_BDF && ioMm.mm === m.unwelcome) {
        m.refuses = true;
        asked.wakeAll();
        await options.scheduler.sleep(REFUSAL);
        throw new IommuError("ENOMEM", `${dev.name} takes no more`);
      }
      await attach?.(domain, dev, ioMm, first);
    };
    return m;
  },
  async prepare(m) {
    const owner = program(m, "owner");
    const vfio = await container(m, owner.task);
    const apps = ["first", "second", "third"].map((name) => program(m, name));
    for (const { task } of apps) await vfio.bind({ pid: task.pid });
    m.unwelcome = apps[0].memory;
    m.refuses = false;
    const other = m.platform.device(OTHER_BDF);
    let left: readonly string[] = [];
    return {
      actors: {
        attach: async () => {
          if ((await perhaps(vfio.attach(other.group?.id ?? -1))) === undefined)
            left = initialised(m).filter((sentence) => sentence.includes(OTHER_BDF));
        },
        exit: async () => {
          await m.asked.wait(() => m.refuses);
          await apps[2].task.exit();
        },
      },
      async settle() {
        for (const { task } of apps) await task.exit();
        await owner.task.exit();
      },
      check: () => left.map((sentence) => `the group was refused, and ${sentence}`),
    };
  },
});
