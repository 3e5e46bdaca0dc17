/** Device files: information, configuration space through the permission map, BARs, interrupts as eventfds. */
import {
  type AddressSpace,
  EventFd,
  InterruptController,
  IommuError,
  O,
  OpenFile,
  Random,
  type Task,
} from "@iommukit/core";
import { FakePciFunction } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import {
  DeviceFlags,
  DmaMap,
  DmaUnmap,
  encodeStruct,
  IrqSet,
  PciIrq,
  RegionInfo,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_IOEVENTFD,
  VFIO_DEVICE_SET_IRQS,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VfioContainer,
  type VfioDevice,
  vfioOf,
} from "../../src/index.js";
import { A, closeClean, errnoOf, type Machine, machine, PAGE } from "../support/machine.js";
import { BAR0, MSI_AT, MSIX_AT, TestFunction } from "../support/test-function.js";

const CONFIG = 7;

async function opened(
  body: (device: VfioDevice, pci: TestFunction, task: Task, m: Awaited<ReturnType<typeof machine>>) => Promise<void>,
  options: Parameters<typeof machine>[0] = {},
) {
  const pci = new TestFunction(A);
  const m = await machine({ ...options, functions: [pci] });
  await m.run(async (task) => {
    const container = await VfioContainer.open(task);
    const group = await container.attach(m.group(A));
    await container.setIommu();
    const device = await group.device(A);
    await body(device, pci, task, m);
  });
  await closeClean(m);
}

function eventFd(task: Task, m: Awaited<ReturnType<typeof machine>>) {
  const event = new EventFd(m.platform.scheduler, 0, true);
  return { event, fd: task.fds.install(new OpenFile(event, O.RDWR)) };
}

const SET = 1 << 17;
const PROBE = 1 << 18;
const [ENTRY, WITH_WAKEUP, EXIT] = [3, 4, 5];

function feature(task: Task, device: { readonly fd: number }, flags: number, fd = 0, argsz = 16) {
  const arg = new Uint8Array(new Int32Array([argsz, flags, fd, 0]).buffer);
  return errnoOf(task.ioctl(device.fd, VFIO_DEVICE_FEATURE, arg));
}

describe("the name of a device (vfio_pci_core_match)", () => {
  const token = "vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
  it.each([
    ["", "success"],
    ["  ", "success"],
    ["1", "ENODEV"],
    [",", "ENODEV"],
    [" x", "EINVAL"],
    [" vf_token=", "EINVAL"],
    [` ${token.slice(0, -1)}`, "EINVAL"],
    [` ${token.replace("b", "g")}`, "EINVAL"],
    [` ${token}`, "EINVAL"],
  ] as const)("may be followed by %j: %s", async (behind, errno) => {
    await opened(async (_device, _pci, task) => {
      const name = new TextEncoder().encode(`${A}${behind}\0`);
      expect(await errnoOf(task.ioctl(4, VFIO_GROUP_GET_DEVICE_FD, name))).toBe(errno);
    });
  });

  it.each([
    [` ${token}`, "success"],
    [` ${token.toUpperCase()} `, "EINVAL"],
    [`  ${token} `, "success"],
    [` ${token} ${token}`, "EINVAL"],
    [` ${token}x`, "EINVAL"],
  ] as const)("of a function with VFs may be followed by %j: %s", async (behind, errno) => {
    await opened(async (_device, pci, task) => {
      pci.writeConfig(0x100, 4, 0x1_0010);
      const name = new TextEncoder().encode(`${A}${behind}\0`);
      expect(await errnoOf(task.ioctl(4, VFIO_GROUP_GET_DEVICE_FD, name))).toBe(errno);
    });
  });
});

describe("a device's regions", () => {
  it("are BARs, ROM and configuration space at index << 40", async () => {
    await opened(async (device) => {
      expect(await device.info()).toEqual({ flags: 2, numRegions: 9, numIrqs: 5 });
      // The BAR with the MSI-X table can be mapped as a whole and says so with a capability.
      expect(await device.regionInfo(0)).toEqual({ flags: 15, size: 0x4000n, offset: 0n });
      expect(await device.regionInfo(1)).toEqual({ flags: 0, size: 0n, offset: 1n << 40n });
      expect(await device.regionInfo(2)).toEqual({ flags: 3, size: 0x20n, offset: 2n << 40n });
      expect(await device.regionInfo(CONFIG)).toEqual({ flags: 3, size: 0x1000n, offset: 7n << 40n });
      expect(await errnoOf(device.regionInfo(8))).toBe("EINVAL");
    });
  });

  it("carry MSIX_MAPPABLE behind the structure when there is room", async () => {
    await opened(async (device, _pci, task) => {
      const arg = new Uint8Array(64);
      arg.set(encodeStruct(RegionInfo, { argsz: 64, index: 0 }));
      await task.ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, arg);
      const words = new Uint32Array(arg.buffer);
      expect([words[0], words[1], words[3], words[8], words[9]]).toEqual([64, 15, 32, 0x1_0003, 0]);
    });
  });

  it("end where they end: short reads, EINVAL behind, EFAULT across the end of configuration space", async () => {
    await opened(async (device) => {
      expect((await device.read(0, 0x3ffc, 16)).length).toBe(4);
      expect(await errnoOf(device.read(0, 0x4000, 4))).toBe("EINVAL");
      expect(await errnoOf(device.read(1, 0, 4))).toBe("EINVAL");
      expect(await errnoOf(device.read(CONFIG, 0xffc, 8))).toBe("EFAULT");
    });
  });

  it("hide the MSI-X table: it reads as ones, and writes are lost", async () => {
    await opened(async (device, pci) => {
      await device.write32(0, 0x1000, 0x1234);
      expect(await device.read32(0, 0x1000)).toBe(0xffff_ffff);
      expect(pci.entry(0)).toEqual([0, 0, 0, 0]);
      await device.write32(0, 0x2000, 0x1234);
      expect(pci.memory[0x2000]).toBe(0x34);
    });
  });
});

describe("configuration space", () => {
  it("shows base address registers of its own: their size by writing ones, the device's stay", async () => {
    await opened(async (device, pci) => {
      expect(await device.read32(CONFIG, 0x10)).toBe(BAR0);
      await device.write32(CONFIG, 0x10, 0xffff_ffff);
      expect(await device.read32(CONFIG, 0x10)).toBe(0xffff_c000);
      await device.write32(CONFIG, 0x18, 0xffff_ffff);
      expect(await device.read32(CONFIG, 0x18)).toBe(0xffff_ffe1);
      await device.write32(CONFIG, 0x14, 0xffff_ffff);
      expect(await device.read32(CONFIG, 0x14)).toBe(0);
      expect(pci.readConfig(0x10, 4)).toBe(BAR0);
    });
  });

  it("passes the command register on, but for Interrupt Disable", async () => {
    await opened(async (device, pci) => {
      expect(pci.readConfig(4, 2)).toBe(2);
      await device.write(CONFIG, 4, Uint8Array.of(0x06, 0x04));
      expect(pci.readConfig(4, 2) & 6).toBe(6);
      expect([...(await device.read(CONFIG, 4, 2))]).toEqual([0x06, 0x04]);
    });
  });

  it("keeps identity and capability lists as they are", async () => {
    await opened(async (device, pci) => {
      for (const at of [0, 8, 0x34, MSI_AT]) {
        const before = await device.read32(CONFIG, at);
        await device.write(CONFIG, at, Uint8Array.of(0xff, 0xff));
        expect(await device.read32(CONFIG, at)).toBe(before);
      }
      expect(pci.readConfig(0, 2)).toBe(0x1234);
    });
  });

  it("does not let the program enable or aim MSI, and MSI-X is read only", async () => {
    await opened(async (device, pci) => {
      await device.write(CONFIG, MSI_AT + 2, Uint8Array.of(0x01));
      await device.write32(CONFIG, MSI_AT + 4, 0xdead_bee0);
      expect(await device.read32(CONFIG, MSI_AT + 4)).toBe(0xdead_bee0);
      expect([pci.readConfig(MSI_AT + 2, 2) & 1, pci.readConfig(MSI_AT + 4, 4)]).toEqual([0, 0]);
      await device.write(CONFIG, MSIX_AT + 2, Uint8Array.of(0, 0x80));
      expect(pci.readConfig(MSIX_AT + 2, 2)).toBe(3);
    });
  });

  it("leaves MSI on that SET_IRQS has enabled, and enables no more vectors than there are", async () => {
    await opened(async (device, pci, task, m) => {
      const control = async (value: number) => {
        await device.write(CONFIG, MSI_AT + 2, Uint8Array.of(value, 0));
        return pci.readConfig(MSI_AT + 2, 1) & 0x71;
      };
      expect(await control(0x51)).toBe(0x20);
      await device.setIrqs(PciIrq.MSI, [eventFd(task, m).fd]);
      expect(await control(0x01)).toBe(0x01);
    });
  });

  it("goes through raw where no structure is", async () => {
    await opened(async (device, pci) => {
      await device.write32(CONFIG, 0x90, 0x1234_5678);
      expect(pci.readConfig(0x90, 4)).toBe(0x1234_5678);
    });
  });
});

describe("a mapped BAR", () => {
  it("keeps the device open after its descriptor has closed", async () => {
    await opened(async (device, _pci, task) => {
      const { ops } = task.fds.get(device.fd);
      expect(() => ops.mmap?.(task, 2 * 2 ** 40, 0x1000, true, true)).toThrow("EINVAL");
      expect(() => ops.mmap?.(task, 0, 0x5000, true, true)).toThrow("EINVAL");
      expect(() => ops.mmap?.(task, 0, 0x1000, true, false)).toThrow("EINVAL");
      const mm = task.mm as AddressSpace;
      const mapping = ops.mmap?.(task, 0x1000, 0x2000, true, true);
      expect(mapping?.page(0x1000)).toBe(BAR0 + 0x2000);
      expect(mapping?.page(0x2000)).toBeUndefined();
      const at = await mm.mmap({ length: 0x2000, shared: true, device: mapping });
      await device.close();
      const files = task.fds.open.map(({ fd }) => fd);
      expect(files).toHaveLength(2);
      await mm.munmap(at, 0x2000);
    });
  });

  it("shows nothing while memory space is disabled (V-12)", async () => {
    await opened(async (device, _pci, task) => {
      const mapping = task.fds.get(device.fd).ops.mmap?.(task, 0, 0x1000, true, true);
      await device.write(CONFIG, 4, Uint8Array.of(0));
      expect(mapping?.page(0)).toBeUndefined();
      await device.write(CONFIG, 4, Uint8Array.of(2));
      expect(mapping?.page(0)).toBe(BAR0);
      mapping?.close();
    });
  });
});

describe("a mapping of a BAR", () => {
  it("is revoked when memory space is turned off, not by other bits of the command register, and not when it is closed", async () => {
    await opened(async (device, _pci, task) => {
      const mapping = task.fds.get(device.fd).ops.mmap?.(task, 0, 4096, false, true);
      let revoked = 0;
      mapping?.mapped?.(async () => void revoked++);
      await device.write(CONFIG, 5, Uint8Array.of(4));
      expect(revoked).toBe(0);
      await device.write(CONFIG, 4, Uint8Array.of(0));
      expect(revoked).toBe(1);
      mapping?.close();
      await device.write(CONFIG, 4, Uint8Array.of(2));
      await device.write(CONFIG, 4, Uint8Array.of(0));
      expect(revoked).toBe(1);
    });
  });
});

describe("a BAR in a program's memory", () => {
  /** The BAR's first page, mapped; and what the CPU reads there: undefined is a SIGBUS. */
  async function mapped(device: VfioDevice, pci: TestFunction, task: Task, m: Machine) {
    vfioOf(m.platform).bus.attach({
      name: "BAR0",
      base: BAR0,
      size: pci.memory.length,
      read: (offset, into) => pci.readBar(0, offset, into),
      write: (offset, bytes) => pci.writeBar(0, offset, bytes),
    });
    const mm = task.mm as AddressSpace;
    const mapping = task.fds.get(device.fd).ops.mmap?.(task, 0, 0x1000, true, true);
    const at = await mm.mmap({ length: 0x1000, shared: true, device: mapping });
    const load = async (space = mm) => {
      const byte = new Uint8Array(1);
      return (await space.read(at, byte)) === 1 ? byte[0] : undefined;
    };
    await device.write(0, 0, Uint8Array.of(0x77));
    return { mm, at, load };
  }
  const command = (device: VfioDevice, value: number) => device.write(CONFIG, 4, Uint8Array.of(value));

  it("goes when memory space is turned off, though it was faulted in, from children too, and comes back (V-12)", async () => {
    await opened(async (device, pci, task, m) => {
      const { mm, load } = await mapped(device, pci, task, m);
      const child = await task.fork();
      expect([await load(), await load(child.mm as AddressSpace)]).toEqual([0x77, 0x77]);
      const heard: string[] = [];
      const hear = (callback: string) => async () => void heard.push(callback);
      mm.registerNotifier({
        release: hear("release"),
        invalidateRange: hear("invalidateRange"),
        changePte: hear("changePte"),
        clearFlushYoung: async () => false,
      });
      await command(device, 0);
      expect(heard).toEqual(["invalidateRange"]);
      expect([await load(), await load(child.mm as AddressSpace)]).toEqual([undefined, undefined]);
      await command(device, 2);
      expect([await load(), await load(child.mm as AddressSpace)]).toEqual([0x77, 0x77]);
      await child.exit();
    });
  });

  it("goes while the device sleeps, until it is told to wake up (vfio_pci_runtime_pm_entry)", async () => {
    await opened(async (device, pci, task, m) => {
      const { load } = await mapped(device, pci, task, m);
      expect(await load()).toBe(0x77);
      expect(await feature(task, device, ENTRY | SET, 0, 8)).toBe("success");
      expect(await load()).toBeUndefined();
      expect(await feature(task, device, ENTRY | SET)).toBe("EINVAL");
      // A system call wakes it for as long as it takes.
      expect((await device.read(0, 0, 1))[0]).toBe(0x77);
      expect(await load()).toBeUndefined();
      expect(await feature(task, device, EXIT | SET, 0, 8)).toBe("success");
      expect(await feature(task, device, EXIT | SET)).toBe("success");
      expect(await load()).toBe(0x77);
    });
  });

  it("is found whole or not at all by threads that fault it in, map it for DMA and turn it off (V-11) (V-12)", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      await opened(async (device, pci, task, m) => {
        const { scheduler } = m.platform;
        const { at, load } = await mapped(device, pci, task, m);
        const random = new Random(seed);
        const pause = () => scheduler.sleep(random.u32() % 50);
        const map = encodeStruct(DmaMap, { argsz: 32, flags: 3, vaddr: at, iova: 0n, size: PAGE });
        const outcomes = new Set<string>();
        let running = 3;
        const thread = (name: string, step: () => Promise<void>) =>
          scheduler.spawn(name, async () => {
            for (let i = 0; i < 40; i++) {
              await pause();
              await step();
            }
            running--;
          });
        thread("cpu", async () => void outcomes.add(`reads ${await load()}`));
        thread("dma", async () => {
          const errno = await errnoOf(task.ioctl(3, VFIO_IOMMU_MAP_DMA, map));
          outcomes.add(`maps: ${errno}`);
          if (errno !== "success") return;
          expect(m.domainOf(A).pages.get(0n)).toBe(BAR0);
          await pause();
          await task.ioctl(3, VFIO_IOMMU_UNMAP_DMA, encodeStruct(DmaUnmap, { argsz: 24, iova: 0n, size: PAGE }));
        });
        thread("config", async () => {
          await command(device, 0);
          expect(await load()).toBeUndefined();
          await pause();
          await command(device, 2);
        });
        while (running > 0) await scheduler.sleep(100);
        expect([...outcomes].toSorted()).toEqual(["maps: EFAULT", "maps: success", "reads 119", "reads undefined"]);
        expect(task.mm?.lockedVm).toBe(0);
      });
    }
  });
});

describe("interrupts", () => {
  it("are counted by what the device has", async () => {
    await opened(async (device) => {
      expect(await device.irqInfo(PciIrq.INTX)).toEqual({ flags: 7, count: 1 });
      expect(await device.irqInfo(PciIrq.MSI)).toEqual({ flags: 9, count: 4 });
      expect(await device.irqInfo(PciIrq.MSIX)).toEqual({ flags: 1, count: 4 });
      expect(await device.irqInfo(PciIrq.REQ)).toEqual({ flags: 9, count: 1 });
      expect(await errnoOf(device.irqInfo(PciIrq.ERR))).toBe("EINVAL");
    });
    await opened(async (device) => expect(await device.irqInfo(PciIrq.ERR)).toEqual({ flags: 9, count: 1 }), {
      profile: "linux-7.3",
    });
  });

  it("by MSI reach the eventfd of their vector, by the number in the low bits of the data", async () => {
    await opened(async (device, pci, task, m) => {
      const events = [0, 1, 2].map(() => eventFd(task, m));
      await device.setIrqs(
        PciIrq.MSI,
        events.map(({ fd }) => fd),
      );
      expect(pci.readConfig(MSI_AT + 2, 2) & 0x71).toBe(0x21);
      const [address, data] = [pci.readConfig(MSI_AT + 4, 4), pci.readConfig(MSI_AT + 12, 2)];
      expect(data % 4).toBe(0);
      const controller = m.platform.resolve(InterruptController);
      expect(controller.deliver(address, data + 1)).toBe(true);
      expect(events.map(({ event }) => event.count)).toEqual([0n, 1n, 0n]);
      await device.disableIrqs(PciIrq.MSI);
      expect(controller.deliver(address, data + 1)).toBe(false);
      expect(pci.readConfig(MSI_AT + 2, 2) & 1).toBe(0);
    });
  });

  it("by MSI-X get an entry of the table each, added while others are in use", async () => {
    await opened(async (device, pci, task, m) => {
      const [first, third] = [eventFd(task, m), eventFd(task, m)];
      await device.setIrqs(PciIrq.MSIX, [first.fd]);
      await device.setIrqs(PciIrq.MSIX, [third.fd], 2);
      expect(pci.readConfig(MSIX_AT + 2, 2) & 0x8000).toBe(0x8000);
      const [low, high, data, control] = pci.entry(2);
      expect([high, control]).toEqual([0, 0]);
      m.platform.resolve(InterruptController).deliver(low, data);
      expect([first.event.count, third.event.count]).toEqual([0n, 1n]);
      expect(await errnoOf(device.setIrqs(PciIrq.MSI, [first.fd]))).toBe("EINVAL");
      await device.disableIrqs(PciIrq.MSIX);
      expect(pci.entry(2)[3]).toBe(1);
    });
  });

  it("by MSI-X reach a doorbell that is mapped once into the window for messages, and no longer than the domain lives", async () => {
    const pci = new TestFunction(A);
    const m = await machine({ functions: [pci] });
    const window = 0x800_0000n;
    m.ops().reservedRegions = () => [{ start: window, length: 0x10_0000n, type: "sw-msi", prot: 0 }];
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      const device = await group.device(A);
      const { pages } = m.domainOf();
      const { fd } = eventFd(task, m);
      await device.setIrqs(PciIrq.MSIX, [fd, fd, fd]);
      expect([0, 1, 2].map((vector) => BigInt(pci.entry(vector)[0]))).toEqual([window, window, window]);
      expect([...pages]).toEqual([[window, 0xfee0_0000]]);
      await device.close();
      await group.unsetContainer();
      expect(pages.size).toBe(0);
    });
    await closeClean(m);
  });

  it("by INTx are masked when they signal and signal again when they are unmasked with the pin still up", async () => {
    await opened(async (device, pci, task, m) => {
      const { event, fd } = eventFd(task, m);
      await device.setIrqs(PciIrq.INTX, [fd]);
      pci.setPin(true);
      pci.setPin(true);
      expect(event.count).toBe(1n);
      expect(pci.readConfig(4, 2) & 0x400).toBe(0x400);
      await device.unmaskIntx();
      expect(event.count).toBe(2n);
      pci.setPin(false);
      await device.unmaskIntx();
      expect(event.count).toBe(2n);
    });
  });

  it("by INTx wait while the program holds them back, from before they are enabled (V-11)", async () => {
    await opened(async (device, pci, task, m) => {
      const { event, fd } = eventFd(task, m);
      await device.write(CONFIG, 5, Uint8Array.of(4));
      await device.setIrqs(PciIrq.INTX, [fd]);
      pci.setPin(true);
      expect(event.count).toBe(0n);
      await device.write(CONFIG, 5, Uint8Array.of(0));
      expect(event.count).toBe(1n);
    });
  });

  it("by INTx never signal while they are masked or after they are disabled, whatever comes at once (V-11)", async () => {
    await opened(async (device, pci, task, m) => {
      const random = new Random(11);
      const { event, fd } = eventFd(task, m);
      const virtualDisable = (on: boolean) => device.write(CONFIG, 5, Uint8Array.of(on ? 4 : 0));
      let signalled = 0;
      for (let i = 0; i < 100; i++) {
        await device.setIrqs(PciIrq.INTX, [fd]);
        let [asserted, disabled, masked, expected] = [false, false, false, event.count];
        for (let k = 0; k < 8; k++) {
          const step = random.u32() % 4;
          if (step < 2) asserted = step === 0;
          if (step === 3) disabled = !disabled;
          if (step < 2) pci.setPin(asserted);
          else if (step === 2) await device.unmaskIntx();
          else await virtualDisable(disabled);
          if (step >= 2) masked = disabled;
          if (asserted && !masked) {
            expected++;
            masked = true;
          }
          expect(event.count).toBe(expected);
        }
        signalled = Number(event.count);
        await virtualDisable(false);
        const before = event.count;
        await device.disableIrqs(PciIrq.INTX);
        pci.setPin(false);
        pci.setPin(true);
        await virtualDisable(true);
        await virtualDisable(false);
        expect(event.count).toBe(before);
        pci.setPin(false);
      }
      expect(signalled).toBeGreaterThan(50);
    });
  });

  it("are tried out with DATA_NONE", async () => {
    await opened(async (device, _pci, task, m) => {
      const { event, fd } = eventFd(task, m);
      expect(await errnoOf(device.triggerIrq(PciIrq.MSI))).toBe("EINVAL");
      await device.setIrqs(PciIrq.MSI, [fd]);
      await device.triggerIrq(PciIrq.MSI);
      expect(event.count).toBe(1n);
    });
  });

  it("of a device's own are tried out when somebody is told of them, and EINVAL otherwise", async () => {
    await opened(async (device, _pci, task, m) => {
      const { event, fd } = eventFd(task, m);
      const set = (flags: number, count: number, ...fds: number[]) => {
        const words = [20 + 4 * fds.length, flags, PciIrq.REQ, 0, count, ...fds];
        return errnoOf(task.ioctl(device.fd, VFIO_DEVICE_SET_IRQS, new Uint8Array(Int32Array.from(words).buffer)));
      };
      const [none, told] = [0x21, 0x24];
      expect([await set(none, 0), await set(none, 1)]).toEqual(["EINVAL", "EINVAL"]);
      // -1 is nobody; what is less is no descriptor, and changes nothing.
      expect([await set(told, 1, fd), await set(told, 1, -2), await set(none, 1)]).toEqual(Array(3).fill("success"));
      expect(event.count).toBe(1n);
      expect([await set(told, 1, -1), await set(none, 1)]).toEqual(["success", "EINVAL"]);
    });
  });

  it.each([
    ["MSI", PciIrq.MSI],
    ["MSI-X", PciIrq.MSIX],
  ])("by %s leave nothing behind when their message cannot be mapped", async (_kind, index) => {
    await opened(async (device, _pci, task, m) => {
      const interrupts = m.platform.resolve(InterruptController);
      const nextFree = () => {
        const vector = interrupts.allocateMessage(() => {});
        vector.free();
        return vector.data;
      };
      const { fd } = eventFd(task, m);
      const vfio = vfioOf(m.platform);
      const unprepared = async () => {
        throw new IommuError("ENOMEM", "no table for the doorbell");
      };
      const prepared = vfio.prepareMessage.bind(vfio);
      const before = nextFree();
      vfio.prepareMessage = unprepared;
      expect([await errnoOf(device.setIrqs(index, [fd])), nextFree()]).toEqual(["ENOMEM", before]);
      vfio.prepareMessage = prepared;
      await device.setIrqs(index, [fd]);
      if (index === PciIrq.MSI) return;
      const used = nextFree();
      vfio.prepareMessage = unprepared;
      const another = new Uint8Array(Int32Array.of(24, 0x24, index, 1, 1, fd).buffer);
      expect([await errnoOf(task.ioctl(device.fd, VFIO_DEVICE_SET_IRQS, another)), nextFree()]).toEqual([
        "ENOMEM",
        used,
      ]);
    });
  });

  it.each([
    ["argsz 19", [19, 0x21, 0, 0, 0], "EINVAL"],
    ["no kind of data", [20, 0x20, 0, 0, 1], "EINVAL"],
    ["two kinds of data", [20, 0x23, 0, 0, 1], "EINVAL"],
    ["two actions", [20, 0x31, 1, 0, 1], "ENOTTY"],
    ["masking MSI", [20, 0x09, 1, 0, 1], "ENOTTY"],
    ["an interrupt that is not there", [20, 0x21, 5, 0, 0], "EINVAL"],
    ["vectors beyond the last", [20, 0x21, 1, 3, 2], "EINVAL"],
    ["no room for the descriptors", [20, 0x24, 1, 0, 1], "EINVAL"],
    ["MSI with no vector", [20, 0x24, 1, 0, 0], "ERANGE"],
    ["disabling what is not enabled", [20, 0x21, 0, 0, 0], "EINVAL"],
  ] as const)("refuse %s", async (_what, words, errno) => {
    await opened(async (device, _pci, task) => {
      const arg = new Uint8Array(Uint32Array.from(words).buffer);
      expect(arg.length).toBe(IrqSet.bytes);
      expect(await errnoOf(task.ioctl(device.fd, VFIO_DEVICE_SET_IRQS, arg))).toBe(errno);
    });
  });

  it("need an eventfd: EBADF for what is not open, EINVAL for another file; nothing is enabled then", async () => {
    await opened(async (device, pci, task, m) => {
      const { fd } = eventFd(task, m);
      expect(await errnoOf(device.setIrqs(PciIrq.MSI, [fd, 9999]))).toBe("EBADF");
      expect(await errnoOf(device.setIrqs(PciIrq.MSI, [device.fd]))).toBe("EINVAL");
      expect(pci.readConfig(MSI_AT + 2, 2) & 1).toBe(0);
    });
  });
});

describe("the rest of a device", () => {
  it("is opened without the promise of a reset when it does not come back from one", async () => {
    /** With PM reset. */
    class Sleeper extends FakePciFunction {
      asleep = true;
      override readConfig(offset: number, width: 1 | 2 | 4): number {
        return this.asleep && offset === 4 && width === 4 ? 0xffff_ffff : super.readConfig(offset, width);
      }
    }
    const pci = new Sleeper(A, { config: { 6: 0x10, 52: 0x40, 64: 1, 66: 3 } });
    const m = await machine({ functions: [pci] });
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      const first = await group.device(A);
      expect(m.kernel.log.at(-1)).toMatch(/^vfio-pci 0000:00:05.0: reset failed: ETIMEDOUT/);
      expect((await first.info()).flags & DeviceFlags.RESET).toBe(0);
      expect(await errnoOf(first.reset())).toBe("EINVAL");
      await first.close();
      pci.asleep = false;
      const second = await group.device(A);
      expect((await second.info()).flags & DeviceFlags.RESET).toBe(DeviceFlags.RESET);
      expect(await errnoOf(second.reset())).toBe("success");
    });
    await closeClean(m);
  });

  it("cannot be reset when it has neither FLR nor PM reset", async () => {
    await opened(async (device) => expect(await errnoOf(device.reset())).toBe("EINVAL"));
  });

  it.each([
    ["linux-6.12", 3, 1 << 18, "success"],
    ["linux-6.12", 3, (1 << 18) | (1 << 16), "EINVAL"],
    ["linux-6.12", 11, 1 << 18, "ENOTTY"],
    ["linux-7.3", 11, 1 << 18, "success"],
    ["linux-7.3", 12, 1 << 18, "EINVAL"],
    ["linux-7.3", 3, 0, "EINVAL"],
  ] as const)("in %s answers feature %i with flags 0x%i: %s", async (profile, feature, flags, errno) => {
    await opened(
      async (device, _pci, task) => {
        const arg = new Uint8Array(64);
        new Uint32Array(arg.buffer).set([64, feature | flags]);
        expect(await errnoOf(task.ioctl(device.fd, VFIO_DEVICE_FEATURE, arg))).toBe(errno);
      },
      { profile },
    );
  });

  describe("sleeps (vfio_pci_runtime_pm_entry)", () => {
    it("until the kernel wakes it for a system call, and signals the eventfd", async () => {
      await opened(async (device, _pci, task, m) => {
        const { event, fd } = eventFd(task, m);
        const signals: number[] = [];
        event.onSignal(() => void signals.push(0));
        expect(await feature(task, device, WITH_WAKEUP | SET, fd)).toBe("success");
        expect(signals.length).toBe(0);
        await device.info();
        expect(signals.length).toBe(1);
        await device.info();
        expect(signals.length).toBe(1);
        // The call that would be a second entry has woken it: it is none.
        expect(await feature(task, device, WITH_WAKEUP | SET, fd)).toBe("success");
        expect(await feature(task, device, ENTRY | SET)).toBe("success");
        expect(signals.length).toBe(2);
        expect(await feature(task, device, WITH_WAKEUP | SET, fd)).toBe("EINVAL");
      });
    });

    it("with an eventfd: what is checked, in order", async () => {
      await opened(async (device, _pci, task) => {
        expect(await feature(task, device, WITH_WAKEUP | SET, -1, 15)).toBe("EINVAL");
        expect(await feature(task, device, WITH_WAKEUP | SET, -1)).toBe("EINVAL");
        expect(await feature(task, device, WITH_WAKEUP | SET, 999)).toBe("EBADF");
        expect(await feature(task, device, WITH_WAKEUP | SET, device.fd)).toBe("EINVAL");
        expect(await feature(task, device, WITH_WAKEUP | SET | PROBE, -1, 8)).toBe("success");
        expect(await feature(task, device, ENTRY | SET)).toBe("success");
        expect(await feature(task, device, WITH_WAKEUP | SET, 999)).toBe("EBADF");
      });
    });

    it("no longer than it is open", async () => {
      await opened(async (device, _pci, task) => {
        expect(await feature(task, device, ENTRY | SET)).toBe("success");
        await device.close();
        const group = 4;
        const fd = await task.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${A}\0`));
        expect(await feature(task, { fd }, ENTRY | SET)).toBe("success");
        await task.close(fd);
      });
    });
  });

  it("writes to a BAR at each signal of an ioeventfd", async () => {
    await opened(async (device, pci, task, m) => {
      const { event, fd } = eventFd(task, m);
      const arg = new Uint8Array(new BigUint64Array([(4n << 32n) | 32n, 0x20n, 0xabcdn, BigInt(fd)]).buffer);
      await task.ioctl(device.fd, VFIO_DEVICE_IOEVENTFD, arg);
      expect(await errnoOf(task.ioctl(device.fd, VFIO_DEVICE_IOEVENTFD, arg))).toBe("EEXIST");
      event.signal();
      expect([...pci.memory.subarray(0x20, 0x24)]).toEqual([0xcd, 0xab, 0, 0]);
    });
  });

  it("takes no ioeventfd in the MSI-X table, but on both sides of it", async () => {
    await opened(async (device, _pci, task, m) => {
      const { fd } = eventFd(task, m);
      const answers: string[] = [];
      for (const offset of [0xffcn, 0x1000n, 0x103cn, 0x1040n]) {
        const arg = new Uint8Array(new BigUint64Array([(4n << 32n) | 32n, offset, 0n, BigInt(fd)]).buffer);
        answers.push(await errnoOf(task.ioctl(device.fd, VFIO_DEVICE_IOEVENTFD, arg)));
      }
      expect(answers).toEqual(["success", "EINVAL", "EINVAL", "success"]);
    });
  });

  it("is not charged for: a BAR is no memory of the process (V-8)", async () => {
    await opened(async (device, _pci, task, m) => {
      const mapping = task.fds.get(device.fd).ops.mmap?.(task, 0, 0x1000, true, true);
      const vaddr = await (task.mm as AddressSpace).mmap({ length: 4096, shared: true, device: mapping });
      const arg = encodeStruct(DmaMap, { argsz: 32, flags: 3, vaddr, iova: 0n, size: PAGE });
      await task.ioctl(3, VFIO_IOMMU_MAP_DMA, arg);
      expect(m.domainOf(A).pages.get(0n)).toBe(BAR0);
      expect(task.mm?.lockedVm).toBe(0);
    });
  });
});
