// You will see a driver of your own with a bug that no ordinary run shows: it unbinds with its lock held, and its mm_exit takes
// the same lock. The explorer finds the schedule in which a process exits in between; without the bug it finds nothing.
import {
  createPlatform,
  type Device,
  IOMMU_SVA_FEAT_IOPF,
  isErrno,
  type Mm,
  Mutex,
  type Platform,
} from "@iommukit/core";
import { exploreAll, type Machine, type Scenario } from "@iommukit/explore";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator } from "@iommukit/pci-device";
import { main, type Print } from "./print.js";

const BDF = "0000:01:00.0";

/** A kernel driver that shares its device with one process. */
class Driver {
  readonly lock: Mutex;
  pasid = -1;

  constructor(
    private readonly platform: Platform,
    private readonly device: Device,
    private readonly careless: boolean,
  ) {
    this.lock = new Mutex(platform.scheduler, platform.trace, "driver->lock");
  }

  /** The process exits: the device must not use it again. */
  readonly mmExit = async (): Promise<number> => {
    await this.lock.with(() => {
      this.pasid = -1;
    });
    return 0;
  };

  async open(mm: Mm): Promise<void> {
    const { sva } = this.platform;
    await sva.iommuSvaDeviceInit(this.device, IOMMU_SVA_FEAT_IOPF, 0, this.mmExit);
    this.pasid = await sva.iommuSvaBindDevice(this.device, mm, IOMMU_SVA_FEAT_IOPF);
  }

  async close(): Promise<void> {
    const { sva } = this.platform;
    if (this.careless) await this.lock.with(() => sva.iommuSvaUnbindDevice(this.device, this.pasid).catch(bondGone));
    else await sva.iommuSvaUnbindDevice(this.device, this.pasid).catch(bondGone);
  }
}

/** mm_exit was faster. */
function bondGone(error: unknown): void {
  if (!isErrno(error, "ESRCH")) throw error;
}

function scenario(careless: boolean): Scenario<Machine> {
  return {
    name: "close-exit",
    summary: "the driver is closed while the process exits",
    async boot(options) {
      return { platform: await createPlatform({ ...options, iommus: [vtd()], devices: [accelerator({ bdf: BDF })] }) };
    },
    async prepare({ platform }) {
      const task = platform.kernel.spawn({ name: "app" });
      const device = platform.device(BDF);
      const driver = new Driver(platform, device, careless);
      await driver.open(task.memory);
      return {
        actors: { exit: () => task.exit(), close: () => driver.close() },
        settle: () => platform.sva.iommuSvaDeviceShutdown(device),
      };
    },
  };
}

/** In a test it is `await exploreAll(scenario)` alone: it throws what it has found. */
export async function example(print: Print): Promise<void> {
  for (const careless of [false, true]) {
    print(`${careless ? "with" : "without"} the lock held:`);
    try {
      print(`nothing found in ${await exploreAll(scenario(careless), { bound: 1, runs: 200 })} schedules\n`);
    } catch (error) {
      print((error as Error).message);
    }
  }
}

await main(import.meta, example);
