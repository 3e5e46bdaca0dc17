/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET (vfio_pci_core.c): all that is behind a bridge, or nothing. */
import type { AddressSpace, Task } from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import {
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_PCI_HOT_RESET,
  VfioContainer,
  type VfioDevice,
} from "../../src/index.js";
import { closeClean, errnoOf, machine, PAGE } from "../support/machine.js";
import { TestFunction } from "../support/test-function.js";

const ONE = "0000:01:00.0";
const TWO = "0000:01:02.0";

/** Secondary Bus Reset takes the command register of everything below away. */
class Bridge extends FakePciFunction {
  readonly below: Below[] = [];

  override writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    super.writeConfig(offset, width, value);
    if ((this.readConfig(0x3e, 2) & 0x40) !== 0) for (const pci of this.below) pci.resetByBus();
  }
}

class Below extends TestFunction {
  resets = 0;
  /** What is looked at while the bus is in reset. */
  during = () => {};

  constructor(bdf: string, bridge: Bridge) {
    super(bdf, [bridge]);
    bridge.below.push(this);
  }

  resetByBus(): void {
    this.resets++;
    this.writeConfig(4, 2, 0);
    this.during();
  }
}

interface Opened {
  readonly task: Task;
  readonly device: VfioDevice;
  readonly one: Below;
  readonly two: Below;
  readonly groups: readonly [number, number];
  readonly container: number;
  readonly m: Awaited<ReturnType<typeof machine>>;
}

async function opened(body: (opened: Opened) => Promise<void>, devices?: readonly string[]) {
  const bridge = new Bridge("0000:00:1c.0");
  const [one, two] = [new Below(ONE, bridge), new Below(TWO, bridge)];
  const m = await machine({ functions: [one, two], devices });
  await m.run(async (task) => {
    const container = await VfioContainer.open(task);
    const group = await container.attach(m.group(ONE));
    const other = devices ? group : await container.attach(m.group(TWO));
    await container.setIommu();
    const device = await group.device(ONE);
    await body({ task, device, one, two, groups: [group.fd, other.fd], container: container.fd, m });
  });
  await closeClean(m);
}

function words(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}

describe("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", () => {
  it("names every device behind the bridge, with its group", async () => {
    await opened(async ({ task, device, m }) => {
      const arg = words(28, 0, 0, 0, 0, 0, 0);
      await task.ioctl(device.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, arg);
      expect([...new Int32Array(arg.buffer)]).toEqual([
        28,
        0,
        2,
        m.group(ONE),
        1 << 16,
        m.group(TWO),
        (0x10 << 24) | (1 << 16),
      ]);
    });
  });

  it("tells their number with ENOSPC where there is no room", async () => {
    await opened(async ({ task, device }) => {
      const arg = words(27, 0, 0);
      expect(await errnoOf(task.ioctl(device.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, arg))).toBe("ENOSPC");
      expect([...new Int32Array(arg.buffer)]).toEqual([27, 0, 2]);
      expect(await errnoOf(task.ioctl(device.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, words(11, 0, 0)))).toBe("EINVAL");
    });
  });
});

describe("VFIO_DEVICE_PCI_HOT_RESET", () => {
  type Row = readonly [string, (opened: Opened) => Uint8Array, string];
  const rows: readonly Row[] = [
    ["a buffer that ends inside of the head", () => words(12, 0), "EFAULT"],
    ["argsz of 11", () => words(11, 0, 1, 0), "EINVAL"],
    ["flags", () => words(12, 1, 1, 0), "EINVAL"],
    ["no group", () => words(12, 0, 0), "EINVAL"],
    ["more groups than devices, before it reads them", () => words(24, 0, 3), "EINVAL"],
    ["a buffer that ends before the last group", ({ groups }) => words(20, 0, 2, groups[0]), "EFAULT"],
    [
      "a descriptor that is not open, before one that is no group",
      ({ container }) => words(20, 0, 2, -1, container),
      "EBADF",
    ],
    ["a descriptor that is no group", ({ container, groups }) => words(20, 0, 2, groups[0], container), "EINVAL"],
    ["its own group alone", ({ groups }) => words(16, 0, 1, groups[0]), "EINVAL"],
  ];
  it.each(rows)("refuses %s, and resets nothing", async (_what, arg, errno) => {
    await opened(async (all) => {
      expect(await errnoOf(all.task.ioctl(all.device.fd, VFIO_DEVICE_PCI_HOT_RESET, arg(all)))).toBe(errno);
      expect([all.one.resets, all.two.resets]).toEqual([0, 0]);
    });
  });

  it("refuses when a device behind the bridge is not VFIO's (vfio_pci_dev_set_resettable)", async () => {
    await opened(
      async ({ task, device, one, two, m, groups }) => {
        m.platform.device(TWO).driver = "pci-stub";
        const refused = task.ioctl(device.fd, VFIO_DEVICE_PCI_HOT_RESET, words(16, 0, 1, groups[0]));
        expect(await errnoOf(refused)).toBe("EINVAL");
        expect([one.resets, two.resets]).toEqual([0, 0]);
      },
      [ONE],
    );
  });

  it("refuses on a root bus with ENODEV, but no group at all with EINVAL", async () => {
    const m = await machine({ functions: [new TestFunction(ONE)] });
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(ONE));
      await container.setIommu();
      const { fd } = await group.device(ONE);
      const reset = (...arg: number[]) => errnoOf(task.ioctl(fd, VFIO_DEVICE_PCI_HOT_RESET, words(...arg)));
      expect(await reset(12, 0, 0)).toBe("EINVAL");
      expect(await reset(16, 0, 1, group.fd)).toBe("ENODEV");
      expect(await errnoOf(task.ioctl(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, words(12, 0, 0)))).toBe("ENODEV");
    });
    await closeClean(m);
  });

  it("resets them all through the bridge, gives them their setup back, and nobody has a BAR meanwhile (V-12)", async () => {
    await opened(async ({ task, device, one, two, groups }) => {
      await device.enableBusMaster();
      const mapping = task.fds.get(device.fd).ops.mmap?.(task, 0, 0x1000, true, true);
      const memory = task.mm as AddressSpace;
      const bar = await memory.mmap({ length: 4096, shared: true, device: mapping });
      const touched = async () => {
        await memory.read(bar, new Uint8Array(1));
        return memory.mappings.pages.get(Number(bar / PAGE)) !== undefined;
      };
      expect(await touched()).toBe(true);
      const resident: boolean[] = [];
      one.during = () => void resident.push(memory.mappings.pages.get(Number(bar / PAGE)) !== undefined);
      const before = [one, two].map((pci) => pci.readConfig(4, 2));
      await task.ioctl(device.fd, VFIO_DEVICE_PCI_HOT_RESET, words(20, 0, 2, ...groups));
      expect([one.resets, two.resets]).toEqual([1, 1]);
      expect([one, two].map((pci) => pci.readConfig(4, 2))).toEqual(before);
      expect(resident).toEqual([false]);
      expect(await touched()).toBe(true);
    });
  });
});
