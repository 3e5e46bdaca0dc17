/** Emulated devices: their drivers pin pages, hear of unmaps, and copy (F17, F26, V-3, V-6), without or beside a real device. */
import { IommuError, IommuProt, type Task, user } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import {
  DmaUnmap,
  DmaUnmapFlags,
  type EmulatedDevice,
  type EmulatedDriver,
  encodeStruct,
  VFIO_CHECK_EXTENSION,
  VFIO_IOMMU_UNMAP_DMA,
  VfioContainer,
  type VfioDevice,
  VfioExtension,
  type VfioGroup,
  type VfioOptions,
  vfioOf,
} from "../../src/index.js";
import { A, B, closeClean, errnoOf, type Machine, machine, memory, PAGE } from "../support/machine.js";

const { READ, WRITE } = IommuProt;
const RW = READ | WRITE;
const NAME = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
const IOVA = 0x10_0000n;
const PAGES = 8;

interface Setup {
  readonly m: Machine;
  readonly task: Task;
  readonly container: VfioContainer;
  /** Of the emulated device. */
  readonly group: VfioGroup;
  readonly device: EmulatedDevice;
  readonly file: VfioDevice;
  /** Where the mapping's pages are in the program. */
  readonly vaddr: bigint;
  readonly locked: () => number | undefined;
}

interface Options extends VfioOptions {
  readonly type?: number;
  readonly driver?: EmulatedDriver;
  /** Real devices whose groups join before the mapping is made. */
  readonly beside?: readonly string[];
  /** Flags of the mapping. */
  readonly prot?: number;
}

/** A driver that unpins what it is asked to, and remembers what it heard. */
function obedient(heard: string[] = []): EmulatedDriver {
  return {
    async dmaUnmap(device, iova, size) {
      heard.push(`0x${iova.toString(16)} 0x${size.toString(16)}`);
      await device.unpinPages(iova, Number(size / PAGE));
    },
  };
}

/** A program with an emulated device open, and 8 pages mapped; everything is closed and checked for leaks in the end. */
async function program(options: Options, body: (setup: Setup) => Promise<void>): Promise<void> {
  const { type, driver = obedient(), beside = [], prot = RW, ...vfio } = options;
  const m = await machine(vfio);
  const device = vfioOf(m.platform).registerEmulated(NAME, driver);
  await m.run(async (task) => {
    const container = await VfioContainer.open(task);
    const group = await container.attach(device.group.iommuGroup.id);
    for (const bdf of beside) await container.attach(m.group(bdf));
    await container.setIommu(type);
    const vaddr = await memory(task, PAGES);
    await container.mapDma({ iova: IOVA, vaddr, size: BigInt(PAGES) * PAGE, flags: prot });
    const file = await group.device(NAME);
    const locked = () => task.mm?.lockedVm;
    await body({ m, task, container, group, device, file, vaddr, locked });
  });
  await closeClean(m);
}

const allPages = { iova: IOVA, size: BigInt(PAGES) * PAGE };

describe("a container of emulated devices alone", () => {
  it("pins nothing when the program maps, and what a driver asks for, charged once (F14) (F20) (F26)", async () => {
    await program({}, async ({ m, task, device, vaddr, locked, container }) => {
      expect(locked()).toBe(0);
      await task.mm?.write(vaddr + PAGE, Uint8Array.of(1, 2, 3));
      const [first, second] = await device.pinPages(IOVA + PAGE, 2, RW);
      expect(locked()).toBe(2);
      const bytes = new Uint8Array(3);
      vfioOf(m.platform).bus.read(first, bytes);
      expect([...bytes]).toEqual([1, 2, 3]);
      expect(await device.pinPages(IOVA + 2n * PAGE, 1, READ)).toEqual([second]);
      expect(locked()).toBe(2);
      await device.unpinPages(IOVA + PAGE, 2);
      expect(locked()).toBe(1);
      await device.unpinPages(IOVA + 2n * PAGE, 1);
      expect(locked()).toBe(0);
      expect((await container.info()).iovaRanges).toEqual([]);
      expect(m.kernel.log).toEqual([]);
    });
  });

  it("keeps pinned memory where it is, whatever the program does with it (F26)", async () => {
    await program({}, async ({ m, task, device, vaddr }) => {
      const [pa] = await device.pinPages(IOVA, 1, RW);
      const child = await task.fork();
      await task.mm?.write(vaddr, Uint8Array.of(42));
      const byte = new Uint8Array(1);
      vfioOf(m.platform).bus.read(pa, byte);
      expect(byte[0]).toBe(42);
      await child.exit();
      await device.unpinPages(IOVA, 1);
    });
  });

  it.each([
    { what: "nothing mapped", at: 0n, count: 1, prot: RW, errno: "EINVAL" },
    { what: "the end of the mapping", at: IOVA + 7n * PAGE, count: 2, prot: RW, errno: "EINVAL" },
    { what: "an address that is no page's", at: IOVA + 1n, count: 1, prot: RW, errno: "EINVAL" },
    { what: "more than 512 pages", at: IOVA, count: 513, prot: RW, errno: "E2BIG" },
    { what: "no page", at: IOVA, count: 0, prot: RW, errno: "EINVAL" },
    { what: "a negative number of pages", at: IOVA, count: -1, prot: RW, errno: "EINVAL" },
    { what: "a number that is none", at: IOVA, count: Number.NaN, prot: RW, errno: "EINVAL" },
    { what: "a range beyond 2^64", at: 2n ** 64n - PAGE, count: 2, prot: RW, errno: "EINVAL" },
    { what: "that on linux-7.3", at: 2n ** 64n - PAGE, count: 2, prot: RW, errno: "EOVERFLOW", profile: "linux-7.3" },
    { what: "writing where only reads are mapped", at: IOVA, count: 1, prot: WRITE, errno: "EPERM", mapped: READ },
    { what: "a v1 container", at: IOVA, count: 1, prot: RW, errno: "EACCES", type: VfioExtension.TYPE1_IOMMU },
    { what: "a driver without dmaUnmap", at: IOVA, count: 1, prot: RW, errno: "EINVAL", driver: {} },
  ] as const)("answers $errno to pinning $what, and pins nothing (F26) (V-3)", async (row) => {
    const { at, count, prot, errno } = row;
    const { profile, mapped, type, driver } = {
      profile: undefined,
      mapped: RW,
      type: undefined,
      driver: undefined,
      ...row,
    };
    await program({ profile, type, driver, prot: mapped }, async ({ device, locked }) => {
      expect(await errnoOf(device.pinPages(at, count, prot))).toBe(errno);
      expect(locked()).toBe(0);
    });
  });

  it("answers ENOMEM beyond RLIMIT_MEMLOCK, EFAULT where the program has no memory, and gives back what came before (F20) (F26)", async () => {
    await program({}, async ({ task, container, device, locked }) => {
      task.credentials = user(1000);
      task.limits.memlock = 4 * Number(PAGE);
      const hole = 0x4000_0000n;
      await container.mapDma({ iova: 0x100_0000n, vaddr: hole, size: PAGE });
      expect(await errnoOf(device.pinPages(0x100_0000n, 1, RW))).toBe("EFAULT");
      const vaddr = await memory(task, 8);
      await container.mapDma({ iova: 0x200_0000n, vaddr, size: 8n * PAGE });
      expect(await errnoOf(device.pinPages(0x200_0000n, 5, RW))).toBe("ENOMEM");
      expect(locked()).toBe(0);
      expect(await device.pinPages(0x200_0000n, 4, RW)).toHaveLength(4);
      await device.unpinPages(0x200_0000n, 4);
    });
  });

  it("gives back what it has pinned, and nothing else; beyond the mapping is a bug to warn of (F26)", async () => {
    await program({}, async ({ m, device, locked }) => {
      await device.pinPages(IOVA + PAGE, 1, RW);
      await device.unpinPages(IOVA, PAGES);
      expect(locked()).toBe(0);
      expect(m.kernel.log).toEqual([]);
      await device.unpinPages(IOVA, PAGES + 2);
      expect(m.kernel.log).toEqual(["WARNING: vfio_iommu_type1_unpin_pages: nothing is mapped at 0x108000"]);
    });
  });
});

describe("an emulated device's file", () => {
  it("is what its driver makes of it; refusals of openDevice reach the program (F6) (F26)", async () => {
    const opened: string[] = [];
    const driver: EmulatedDriver = {
      async openDevice({ name }) {
        if (opened.push(name) > 1) throw new IommuError("EBUSY", "once only");
      },
      ioctl: async (_device, _task, request) => request & 0xff,
      async read(_device, into, position) {
        into.fill(position);
        return into.length;
      },
    };
    await program({ driver }, async ({ m, task, group, device, file }) => {
      expect(await task.ioctl(file.fd, 0x3b70)).toBe(0x70);
      const bytes = new Uint8Array(2);
      expect([await task.pread(file.fd, bytes, 7), ...bytes]).toEqual([2, 7, 7]);
      expect(await errnoOf(task.pwrite(file.fd, bytes, 0))).toBe("EINVAL");
      expect(await errnoOf(group.unsetContainer())).toBe("EBUSY");
      expect(() => vfioOf(m.platform).unregisterEmulated(device)).toThrow("EBUSY");
      for (const name of [NAME, A])
        expect(() => vfioOf(m.platform).registerEmulated(name, obedient())).toThrow("EEXIST");
      await file.close();
      expect(await errnoOf(group.device(NAME))).toBe("EBUSY");
      expect(await errnoOf(group.device("another"))).toBe("ENODEV");
      await group.close();
      vfioOf(m.platform).unregisterEmulated(device);
      expect(await errnoOf(task.open(device.group.path, 2))).toBe("ENOENT");
    });
  });
});

describe("an emulated device that is closed", () => {
  it("is opened anew when its driver has closed it, and can pin then", async () => {
    const log: string[] = [];
    const driver: EmulatedDriver = {
      ...obedient(),
      openDevice: async () => void log.push("open"),
      closeDevice: async (device) => {
        await device.group.vfio.scheduler.sleep(1000);
        log.push("close");
      },
    };
    await program({ driver }, async ({ m, task, device, group, file }) => {
      m.platform.scheduler.spawn("thread", () => task.close(file.fd));
      await m.platform.scheduler.sleep(10);
      await group.device(NAME);
      expect(log).toEqual(["open", "close", "open"]);
      expect(await device.pinPages(IOVA, 1, RW)).toHaveLength(1);
      await device.unpinPages(IOVA, 1);
    });
  });
});

describe("UNMAP_DMA of pages that drivers hold", () => {
  it("asks them to unpin, and unmaps then; mappings without such pages are not spoken of (F17)", async () => {
    const heard: string[] = [];
    await program({ driver: obedient(heard) }, async ({ task, container, device, locked }) => {
      const vaddr = await memory(task, 1);
      for (const iova of [0x8_0000n, 0x20_0000n]) await container.mapDma({ iova, vaddr, size: PAGE });
      await device.pinPages(IOVA, PAGES, RW);
      expect(await container.unmapDma({ iova: 0x8_0000n, size: 0x20_0000n })).toBe(10n * PAGE);
      expect(heard).toEqual(["0x100000 0x8000"]);
      expect(locked()).toBe(0);
    });
  });

  it("lets the driver do what it likes meanwhile: iommu->lock is free (F17) (I-5)", async () => {
    const driver: EmulatedDriver = {
      async dmaUnmap(device, iova, size) {
        await device.dmaWrite(iova, Uint8Array.of(9));
        await device.unpinPages(iova, Number(size / PAGE));
      },
    };
    await program({ driver }, async ({ task, container, device, vaddr }) => {
      await device.pinPages(IOVA, PAGES, RW);
      await container.unmapDma(allPages);
      const byte = new Uint8Array(1);
      await task.mm?.read(vaddr, byte);
      expect(byte[0]).toBe(9);
    });
  });

  it("asks once more as long as pages are held, and calls it a bug after ten times (F17)", async () => {
    let asked = 0;
    const unpinsAt = { time: 5 };
    const driver: EmulatedDriver = {
      async dmaUnmap(device, iova) {
        if (++asked >= unpinsAt.time) await device.unpinPages(iova, 1);
      },
    };
    await program({ driver }, async ({ container, device, task }) => {
      await device.pinPages(IOVA, 1, RW);
      await container.unmapDma(allPages);
      expect(asked).toBe(5);
      asked = 0;
      unpinsAt.time = 1000;
      const vaddr = await memory(task, 1);
      await container.mapDma({ iova: IOVA, vaddr, size: PAGE });
      await device.pinPages(IOVA, 1, RW);
      await expect(container.unmapDma({ iova: IOVA, size: PAGE })).rejects.toThrow("BUG");
      expect(asked).toBe(11);
      await device.unpinPages(IOVA, 1);
    });
  });

  it("does not call a driver whose device is closed: closing waits for a call that runs (F17)", async () => {
    const log: string[] = [];
    const driver: EmulatedDriver = {
      async dmaUnmap(device, iova, size) {
        log.push("dmaUnmap begins");
        await device.unpinPages(iova, Number(size / PAGE));
        await device.group.vfio.scheduler.sleep(1000);
        log.push("dmaUnmap ends");
      },
      closeDevice: async () => void log.push("closeDevice"),
    };
    await program({ driver }, async ({ m, container, device, file }) => {
      await device.pinPages(IOVA, PAGES, RW);
      m.platform.scheduler.spawn("unmap", async () => void (await container.unmapDma(allPages)));
      await m.platform.scheduler.sleep(10);
      await file.close();
      log.push("closed");
      expect(log).toEqual(["dmaUnmap begins", "closeDevice", "dmaUnmap ends", "closed"]);
      await m.platform.scheduler.sleep(2000);
    });
  });

  it("of addresses alone is refused beside emulated devices, and not offered (F10) (F19)", async () => {
    await program({}, async ({ task, container }) => {
      const arg = encodeStruct(DmaUnmap, { argsz: DmaUnmap.bytes, flags: DmaUnmapFlags.VADDR, ...allPages });
      expect(await errnoOf(task.ioctl(container.fd, VFIO_IOMMU_UNMAP_DMA, arg))).toBe("EBUSY");
      const extension = BigInt(VfioExtension.UPDATE_VADDR);
      expect(await task.ioctl(container.fd, VFIO_CHECK_EXTENSION, extension)).toBe(0);
    });
  });
});

describe("vfio_dma_rw", () => {
  it("copies both ways by IOVA, across mappings (F26)", async () => {
    await program({}, async ({ task, container, device, vaddr }) => {
      const more = await memory(task, 1);
      await container.mapDma({ iova: IOVA + BigInt(PAGES) * PAGE, vaddr: more, size: PAGE });
      const border = IOVA + BigInt(PAGES) * PAGE - 2n;
      await device.dmaWrite(border, Uint8Array.of(1, 2, 3, 4));
      const [before, after] = [new Uint8Array(2), new Uint8Array(2)];
      await task.mm?.read(vaddr + BigInt(PAGES) * PAGE - 2n, before);
      await task.mm?.read(more, after);
      expect([...before, ...after]).toEqual([1, 2, 3, 4]);
      const back = new Uint8Array(4);
      await device.dmaRead(border, back);
      expect([...back]).toEqual([1, 2, 3, 4]);
    });
  });

  it.each([
    { what: "nothing to copy", at: IOVA, bytes: 0, write: false, errno: "EINVAL" },
    { what: "nothing mapped", at: 0n, bytes: 1, write: false, errno: "EINVAL" },
    { what: "the end of the mapping", at: IOVA + 8n * PAGE - 1n, bytes: 2, write: false, errno: "EINVAL" },
    { what: "writing a mapping to read", at: IOVA, bytes: 1, write: true, errno: "EPERM", prot: READ },
    { what: "reading a mapping to write", at: IOVA, bytes: 1, write: false, errno: "EPERM", prot: WRITE },
  ] as const)("answers $errno to $what (F26)", async ({ at, bytes, write, errno, ...more }) => {
    const { prot } = { prot: RW, ...more };
    await program({ prot }, async ({ device }) => {
      const buffer = new Uint8Array(bytes);
      expect(await errnoOf(write ? device.dmaWrite(at, buffer) : device.dmaRead(at, buffer))).toBe(errno);
    });
  });

  it("answers EFAULT where the program has no memory, EPERM when it has exited, EINVAL before the device is open (F26)", async () => {
    await program({}, async ({ m, task, container, device, group, file }) => {
      await container.mapDma({ iova: 0x100_0000n, vaddr: 0x4000_0000n, size: PAGE });
      expect(await errnoOf(device.dmaRead(0x100_0000n, new Uint8Array(1)))).toBe("EFAULT");
      const other = await task.fork();
      await task.exit();
      expect(await errnoOf(device.dmaRead(IOVA, new Uint8Array(1)))).toBe("EPERM");
      expect(await errnoOf(device.pinPages(IOVA, 1, RW))).toBe("ENODEV");
      await other.close(file.fd);
      await other.close(group.fd);
      await other.exit();
      await m.platform.scheduler.idle();
      expect(await errnoOf(device.dmaRead(IOVA, new Uint8Array(1)))).toBe("EINVAL");
    });
  });
});

describe("emulated devices beside real ones", () => {
  it("share what the mapping has pinned: nothing is charged twice (F20) (F26) (V-6)", async () => {
    await program({ beside: [A] }, async ({ device, locked, container }) => {
      expect(locked()).toBe(PAGES);
      await device.pinPages(IOVA, 3, RW);
      expect(locked()).toBe(PAGES);
      await device.unpinPages(IOVA, 1);
      expect(locked()).toBe(PAGES);
      await container.unmapDma(allPages);
      expect(locked()).toBe(0);
    });
  });

  it("are charged once at the border of two runs of memory as well (F20) (V-6)", async () => {
    await program({}, async ({ m, task, container, device, locked }) => {
      const { memory: mm } = task;
      const vaddr = await mm.mmap({ length: PAGES * 4096 });
      const half = (PAGES / 2) * 4096;
      await mm.write(vaddr, new Uint8Array(half).fill(1));
      await memory(task, 1);
      await mm.write(vaddr + BigInt(half), new Uint8Array(half).fill(1));
      const iova = 2n * IOVA;
      await container.mapDma({ iova, vaddr, size: BigInt(PAGES) * PAGE });
      await device.pinPages(iova + BigInt(half), 1, RW);
      await container.attach(m.group(A));
      expect(locked()).toBe(2 * PAGES);
      await device.unpinPages(iova + BigInt(half), 1);
      expect(locked()).toBe(2 * PAGES);
    });
  });

  it("keep their pages when the last real group goes, and the mapping is pinned anew with the next (F20) (F23) (V-6)", async () => {
    await program({}, async ({ m, container, device, locked }) => {
      const pinned = await device.pinPages(IOVA + PAGE, 2, RW);
      expect(locked()).toBe(2);
      for (const bdf of [A, B]) {
        const group = await container.attach(m.group(bdf));
        expect(locked()).toBe(PAGES);
        expect(m.domainOf(bdf).pages.get(IOVA + PAGE)).toBe(pinned[0]);
        await group.unsetContainer();
        expect(locked()).toBe(2);
        await group.close();
      }
      expect(await device.pinPages(IOVA + PAGE, 2, RW)).toEqual(pinned);
      for (let i = 0; i < 2; i++) await device.unpinPages(IOVA + PAGE, 2);
      expect(locked()).toBe(0);
    });
  });

  it("take the limits of the real group along when it goes: all IOVAs are in the list then (F23, vfio_iommu_aper_expand)", async () => {
    await program({}, async ({ m, container }) => {
      const ranges = async () => (await container.info()).iovaRanges;
      expect(await ranges()).toEqual([]);
      const group = await container.attach(m.group(A));
      expect(await ranges()).toEqual([{ start: 0n, end: (1n << 48n) - 1n }]);
      await group.unsetContainer();
      expect(await ranges()).toEqual([{ start: 0n, end: (1n << 64n) - 1n }]);
      await group.close();
      await container.attach(m.group(B));
      expect(await ranges()).toEqual([{ start: 0n, end: (1n << 48n) - 1n }]);
    });
  });

  it("leave nothing when the real group does not fit: the container is as before (F14) (F21)", async () => {
    await program({}, async ({ m, task, container, device, locked }) => {
      await device.pinPages(IOVA, 1, RW);
      const hole = 0x4000_0000n;
      await container.mapDma({ iova: 0x100_0000n, vaddr: hole, size: PAGE });
      const group = await task.open(`/dev/vfio/${m.group(A)}`, 2);
      await task.close(group);
      expect(await errnoOf(container.attach(m.group(A)))).toBe("EFAULT");
      expect(locked()).toBe(1);
      await device.unpinPages(IOVA, 1);
    });
  });

  it("are given back, with a warning, what a driver left behind when everything goes (V-6) (I-4)", async () => {
    await program({ beside: [A] }, async ({ m, device, locked, file, group, container }) => {
      await device.pinPages(IOVA, 2, RW);
      await file.close();
      await group.unsetContainer();
      expect(locked()).toBe(PAGES);
      await container.unmapDma({ iova: 0x100_0000n, size: PAGE });
      await expect(container.unmapDma(allPages)).rejects.toThrow("BUG");
      await m.platform.unplug(A);
      expect(locked()).toBe(0);
      expect(m.kernel.log).toContain("WARNING: vfio_remove_dma: 2 pages of the mapping at 0x100000 are still pinned");
    });
  });
});

describe("dirty pages of emulated devices", () => {
  it("of a mapping with more pages than a bitmap has are EINVAL, at START and at MAP (F25, vfio_dma_bitmap_alloc)", async () => {
    await program({}, async ({ container, device, vaddr }) => {
      const most = 0x7fff_ffffn * PAGE;
      const huge = { iova: 1n << 44n, vaddr: PAGE, size: most + PAGE };
      const rest = (await container.info()).dmaAvail;
      await container.mapDma(huge);
      expect(await errnoOf(container.startDirtyTracking())).toBe("EINVAL");
      await container.unmapDma(huge);
      await container.startDirtyTracking();
      expect(await errnoOf(container.mapDma(huge))).toBe("EINVAL");
      expect((await container.info()).dmaAvail).toBe(rest);
      expect(await errnoOf(container.unmapDma(huge))).toBe("success");
      // What is small enough is tracked as ever.
      await device.pinPages(IOVA, 1, RW);
      await container.getDirtyBitmap(allPages, { data: vaddr, bytes: 8 });
    });
  });

  it("are those that are pinned, or were written for the device (F25) (F26)", async () => {
    await program({}, async ({ task, container, device }) => {
      const data = await memory(task, 1);
      const dirty = async () => {
        await task.mm?.write(data, new Uint8Array(8));
        await container.getDirtyBitmap(allPages, { data, bytes: 8 });
        const bitmap = new Uint8Array(8);
        await task.mm?.read(data, bitmap);
        return bitmap[0];
      };
      await device.pinPages(IOVA, 1, RW);
      await container.startDirtyTracking();
      expect(await dirty()).toBe(0b0000_0001);
      await device.pinPages(IOVA + PAGE, 1, RW);
      await device.dmaWrite(IOVA + 4n * PAGE - 1n, new Uint8Array(2));
      await device.dmaRead(IOVA + 6n * PAGE, new Uint8Array(2));
      expect(await dirty()).toBe(0b0001_1011);
      await device.unpinPages(IOVA, 1);
      expect(await dirty()).toBe(0b0000_0011);
      await device.unpinPages(IOVA + PAGE, 1);
      expect(await dirty()).toBe(0b0000_0010);
      expect(await dirty()).toBe(0);
    });
  });

  it("are all pages once more when a real device has gone, whose writes nobody saw (F23) (V-5)", async () => {
    await program({}, async ({ m, task, container }) => {
      const data = await memory(task, 1);
      const dirty = async () => {
        await task.mm?.write(data, new Uint8Array(8));
        await container.getDirtyBitmap(allPages, { data, bytes: 8 });
        const bitmap = new Uint8Array(8);
        await task.mm?.read(data, bitmap);
        return bitmap[0];
      };
      await container.startDirtyTracking();
      expect(await dirty()).toBe(0);
      const group = await container.attach(m.group(A));
      expect(await dirty()).toBe(0xff);
      await group.unsetContainer();
      expect(await dirty()).toBe(0xff);
      expect(await dirty()).toBe(0);
      await group.close();
    });
  });
});
