/** MAP_DMA and UNMAP_DMA by errno and by effect: F11–F20, V-1, and the recorded answers of real kernels. */
import { type AddressSpace, type Task, user } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import {
  DmaMap,
  DmaUnmap,
  decodeStruct,
  encodeStruct,
  type ProfileName,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VfioExtension,
  vfioOf,
} from "../../src/index.js";
import { A, closeClean, containerWith, errnoOf, type Machine, machine, memory, PAGE } from "../support/machine.js";

const V1 = VfioExtension.TYPE1_IOMMU;
const TOP = 0xffff_ffff_ffff_f000n;

/** A machine whose IOMMU takes all 64 bits of address, as AMD's does. */
async function wide(profile: ProfileName): Promise<Machine> {
  const m = await machine({ profile });
  const ops = m.ops();
  const alloc = ops.domainAlloc.bind(ops);
  ops.domainAlloc = (type, device) =>
    Object.assign(alloc(type, device), { aperture: { start: 0n, end: 2n ** 64n - 1n } });
  return m;
}

describe("VFIO_IOMMU_MAP_DMA", () => {
  it.each([
    [{ argsz: 31 }, "EINVAL"],
    [{ argsz: 4096 }, "success"],
    [{ flags: 0 }, "EINVAL"],
    [{ flags: 1 }, "success"],
    [{ flags: 2 }, "success"],
    [{ flags: 8 | 3 }, "EINVAL"],
    [{ flags: 4 | 1 }, "EINVAL"],
    [{ flags: 4 }, "ENOENT"],
    [{ size: 0n }, "EINVAL"],
    [{ size: 0x1001n }, "EINVAL"],
    [{ iova: 0x800n }, "EINVAL"],
    [{ iova: TOP, size: 0x2000n }, "EINVAL"],
    [{ iova: 1n << 48n }, "EINVAL"],
    [{ vaddr: 0n }, "EFAULT"],
    [{ vaddr: 0xffff_8880_0000_0000n }, "EFAULT"],
  ] as const)("answers %o with %s (F11, F12)", async (fields, errno) => {
    const m = await machine();
    await m.run(async (task) => {
      const { fd } = await containerWith(m, task);
      const vaddr = await memory(task, 1);
      const arg = encodeStruct(DmaMap, { argsz: 32, flags: 3, vaddr, iova: 0x10000n, size: 0x1000n, ...fields });
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_MAP_DMA, arg))).toBe(errno);
      expect(task.mm?.lockedVm).toBe(errno === "success" ? 1 : 0);
    });
    await closeClean(m);
  });

  it("looks for overlap before the limit, and for the limit before the range (F12)", async () => {
    const m = await machine({ params: { dmaEntryLimit: 1 } });
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const vaddr = await memory(task, 1);
      const map = (iova: bigint) => errnoOf(container.mapDma({ iova, vaddr, size: PAGE }));
      expect(await map(0n)).toBe("success");
      expect(await map(0n)).toBe("EEXIST");
      expect(await map(1n << 50n)).toBe("ENOSPC");
      await container.unmapDma({ iova: 0n, size: PAGE });
      expect(await map(1n << 50n)).toBe("EINVAL");
      expect((await container.info()).dmaAvail).toBe(1);
    });
    await closeClean(m);
  });

  it("answers EOVERFLOW before it looks at the alignment in Linux 7.3, EINVAL before", async () => {
    for (const [profile, errno] of [
      ["linux-7.3", "EOVERFLOW"],
      ["linux-6.12", "EINVAL"],
    ] as const) {
      const m = await machine({ profile });
      await m.run(async (task) => {
        const container = await containerWith(m, task);
        expect(await errnoOf(container.mapDma({ iova: TOP + 0xa1n, vaddr: 0n, size: 0x11000n }))).toBe(errno);
        expect(await errnoOf(container.mapDma({ iova: 0n, vaddr: TOP, size: 0x2000n }))).toBe(errno);
        expect(await errnoOf(container.unmapDma({ iova: TOP, size: 0x2000n }))).toBe(errno);
        expect(await errnoOf(container.unmapDma({ iova: TOP, size: 0x2001n }))).toBe("EINVAL");
      });
      await closeClean(m);
    }
  });

  it("maps and unmaps the last page of the 64-bit space (F13, V-1)", async () => {
    const m = await wide("iommukit");
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const vaddr = await memory(task, 1);
      await container.mapDma({ iova: TOP, vaddr, size: PAGE });
      expect(await errnoOf(container.mapDma({ iova: TOP, vaddr, size: PAGE }))).toBe("EEXIST");
      expect(await container.unmapDma({ iova: 0x1000n, size: 2n ** 64n - 0x1000n })).toBe(PAGE);
      await container.mapDma({ iova: TOP - PAGE, vaddr: await memory(task, 2), size: 2n * PAGE });
      expect(await container.unmapAll()).toBe(2n * PAGE);
    });
    await closeClean(m);
  });

  it("loses a mapping that ends at 2^64 in Linux 6.12: mapped twice, never unmapped, given back at the end", async () => {
    const m = await wide("linux-6.12");
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const vaddr = await memory(task, 1);
      await container.mapDma({ iova: TOP, vaddr, size: PAGE });
      await container.mapDma({ iova: TOP, vaddr, size: PAGE });
      expect(await container.unmapDma({ iova: TOP, size: PAGE })).toBe(0n);
      expect(await container.unmapAll()).toBe(0n);
      expect(task.mm?.lockedVm).toBe(2);
    });
    // Two mappings of one page in one table: the second unmap of the teardown finds nothing; the fake's map shows it.
    m.ops().unmap = (_domain, _iova, pgsize, count) => pgsize * count;
    await closeClean(m);
  });

  it("pins what DMA may do: read-only memory for reads, write-only memory for writes", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const mm = task.mm as AddressSpace;
      const map = async (prot: "r" | "w" | "none", flags: number) => {
        const vaddr = await mm.mmap({ length: 4096, prot });
        const result = await errnoOf(container.mapDma({ iova: 0n, vaddr, size: PAGE, flags }));
        await container.unmapAll();
        return result;
      };
      expect([await map("r", 1), await map("r", 2), await map("r", 3)]).toEqual(["success", "EFAULT", "EFAULT"]);
      expect([await map("w", 1), await map("w", 2), await map("w", 3)]).toEqual(["EFAULT", "success", "success"]);
      expect([await map("none", 1), await map("none", 2)]).toEqual(["EFAULT", "EFAULT"]);
    });
    await closeClean(m);
  });

  it("rolls back what it pinned when a later page cannot be pinned (F14)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const mm = task.mm as AddressSpace;
      const vaddr = await memory(task, 8);
      await mm.munmap(vaddr + 4n * PAGE, 4096);
      expect(await errnoOf(container.mapDma({ iova: 0n, vaddr, size: 8n * PAGE }))).toBe("EFAULT");
      expect(task.mm?.lockedVm).toBe(0);
      await container.mapDma({ iova: 0n, vaddr, size: 4n * PAGE });
    });
    await closeClean(m);
  });
});

describe("VFIO_IOMMU_UNMAP_DMA", () => {
  /** Three mappings: 4 pages at 16 and at 20, 4 pages at 32 (in pages). */
  async function three(m: Machine, task: Task, type?: number) {
    const container = await containerWith(m, task, [A], type);
    const vaddr = await memory(task, 4);
    for (const page of [16n, 20n, 32n]) await container.mapDma({ iova: page * PAGE, vaddr, size: 4n * PAGE });
    return (from: bigint, count: bigint) => container.unmapDma({ iova: from * PAGE, size: count * PAGE });
  }

  it.each([
    [16n, 4n, 4n],
    [0n, 40n, 12n],
    [14n, 10n, 8n],
    [0n, 16n, 0n],
    [16n, 8n, 8n],
  ])("v2 unmaps whole mappings in [%i, +%i): %i pages (F16)", async (from, count, pages) => {
    const m = await machine();
    await m.run(async (task) => expect(await (await three(m, task))(from, count)).toBe(pages * PAGE));
    await closeClean(m);
  });

  it.each([
    [17n, 3n],
    [16n, 3n],
    [15n, 2n],
    [18n, 16n],
  ])("v2 refuses [%i, +%i), which would cut a mapping in two (F16)", async (from, count) => {
    const m = await machine();
    await m.run(async (task) => {
      const unmap = await three(m, task);
      expect(await errnoOf(unmap(from, count))).toBe("EINVAL");
      expect(task.mm?.lockedVm).toBe(12);
    });
    await closeClean(m);
  });

  it.each([
    [16n, 1n, 4n],
    [15n, 2n, 4n],
    [17n, 3n, 0n],
    [18n, 20n, 0n],
    [16n, 5n, 8n],
  ])(
    "v1 takes [%i, +%i) and unmaps %i pages: all of what it begins with, nothing when it begins inside (F16)",
    async (from, count, pages) => {
      const m = await machine();
      await m.run(async (task) => expect(await (await three(m, task, V1))(from, count)).toBe(pages * PAGE));
      await closeClean(m);
    },
  );

  it("leaves the size alone when it refuses, and writes what it unmapped when it does not (F15)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const { fd } = await containerWith(m, task);
      const bad = encodeStruct(DmaUnmap, { argsz: 24, flags: 2, iova: 0x1000n, size: 7n });
      const before = bad.slice();
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_UNMAP_DMA, bad))).toBe("EINVAL");
      expect(bad).toEqual(before);
      const empty = encodeStruct(DmaUnmap, { argsz: 24, flags: 0, iova: 0n, size: 0x1000n });
      await task.ioctl(fd, VFIO_IOMMU_UNMAP_DMA, empty);
      expect(decodeStruct(DmaUnmap, empty).size).toBe(0n);
    });
    await closeClean(m);
  });

  it("invalidates translations before it gives the pages back (F18)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      await container.mapDma({ iova: 0n, vaddr: await memory(task, 1), size: PAGE });
      const locked: number[] = [];
      m.ops().iotlbSync = async () => void locked.push(task.mm?.lockedVm ?? -1);
      await container.unmapAll();
      expect(locked).toEqual([1]);
    });
    await closeClean(m);
  });
});

describe("VADDR", () => {
  it("takes a mapping's memory away and gives it back at another address, without a new pin (F19)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const [first, second] = [await memory(task, 4), await memory(task, 4)];
      const range = { iova: 0x10000n, size: 4n * PAGE };
      await container.mapDma({ ...range, vaddr: first });
      const pages = new Map(m.domainOf(A).pages);
      expect(await errnoOf(container.mapDma({ ...range, vaddr: second, flags: 4 }))).toBe("EINVAL");
      expect(await container.invalidateVaddr(range)).toBe(4n * PAGE);
      expect(await errnoOf(container.invalidateVaddr(range))).toBe("EINVAL");
      expect(await errnoOf(container.attach(m.group("0000:00:06.0")))).toBe("EBUSY");
      expect(await errnoOf(container.mapDma({ ...range, size: 2n * PAGE, vaddr: second, flags: 4 }))).toBe("EINVAL");
      await container.mapDma({ ...range, vaddr: second, flags: 4 });
      expect(m.domainOf(A).pages).toEqual(pages);
      await container.attach(m.group("0000:00:06.0"));
    });
    await closeClean(m);
  });

  it("forgets that an address is invalid with its mapping (F19)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const range = { iova: 0n, size: 4n * PAGE };
      await container.mapDma({ ...range, vaddr: await memory(task, 4) });
      await container.invalidateVaddr(range);
      expect(await container.unmapDma(range)).toBe(4n * PAGE);
      await container.attach(m.group("0000:00:06.0"));
    });
    await closeClean(m);
  });

  it("moves the charge to the process that gives the new address (F20, V-7)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const vaddr = await memory(task, 3);
      const range = { iova: 0n, size: 3n * PAGE };
      await container.mapDma({ ...range, vaddr });
      await container.invalidateVaddr(range);
      const child = await task.fork();
      const arg = encodeStruct(DmaMap, { argsz: 32, flags: 4, vaddr, ...range });
      await child.ioctl(container.fd, VFIO_IOMMU_MAP_DMA, arg);
      expect([task.mm?.lockedVm, child.mm?.lockedVm]).toEqual([0, 3]);
    });
    await closeClean(m);
  });
});

describe("RLIMIT_MEMLOCK", () => {
  it("counts each mapping, rolls back beyond the limit, and shares its counter with mlock", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const vaddr = await memory(task, 16);
      task.limits.memlock = 8 * 4096;
      task.credentials = user(65534);
      const map = (iova: bigint, pages: bigint) => errnoOf(container.mapDma({ iova, vaddr, size: pages * PAGE }));
      expect(await map(0n, 4n)).toBe("success");
      // The same pages again: charged again.
      expect(await map(0x10000n, 4n)).toBe("success");
      expect(await map(0x20000n, 1n)).toBe("ENOMEM");
      expect(task.mm?.lockedVm).toBe(8);
      await container.unmapAll();
      await (task.mm as AddressSpace).mlock(vaddr, 4 * 4096);
      expect(await map(0n, 8n)).toBe("ENOMEM");
      expect(await map(0n, 4n)).toBe("success");
    });
    await closeClean(m);
  });

  it("does not bind CAP_IPC_LOCK, which counts all the same", async () => {
    const m = await machine();
    await m.run(async (task) => {
      task.limits.memlock = 0;
      const container = await containerWith(m, task);
      await container.mapDma({ iova: 0n, vaddr: await memory(task, 64), size: 64n * PAGE });
      expect(task.mm?.lockedVm).toBe(64);
    });
    await closeClean(m);
  });

  it("is the mapping process's: a dead child's mapping is unmapped by the parent", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      const vaddr = await memory(task, 4);
      const child = await task.fork();
      const arg = encodeStruct(DmaMap, { argsz: 32, flags: 3, vaddr, iova: 0x20000n, size: 4n * PAGE });
      await child.ioctl(container.fd, VFIO_IOMMU_MAP_DMA, arg);
      expect([task.mm?.lockedVm, child.mm?.lockedVm]).toEqual([0, 4]);
      await child.exit();
      expect(m.domainOf(A).pages.size).toBe(4);
      expect(await container.unmapDma({ iova: 0n, size: 0x100000n })).toBe(4n * PAGE);
      expect(task.mm?.lockedVm).toBe(0);
    });
    await closeClean(m);
  });
});

describe("VFIO_IOMMU_GET_INFO", () => {
  async function info(m: Machine, task: Task, argsz: number): Promise<Uint8Array> {
    const { fd } = await containerWith(m, task);
    const bytes = new Uint8Array(256).fill(0xa5);
    new DataView(bytes.buffer).setUint32(0, argsz, true);
    await task.ioctl(fd, VFIO_IOMMU_GET_INFO, bytes);
    return bytes;
  }

  function words(bytes: Uint8Array, count: number): number[] {
    return [...new Uint32Array(bytes.slice(0, count * 4).buffer)];
  }

  it("writes the whole chain when it fits: MIGRATION, DMA_AVAIL, IOVA_RANGE, each on 8 bytes (F8)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const bytes = await info(m, task, 120);
      expect(words(bytes, 30)).toEqual([
        ...[120, 3, 0x4020_1000, 0, 24, 0],
        ...[0x1_0002, 56, 0, 0, 0x1000, 0, 0x1000_0000, 0],
        ...[0x1_0003, 72, 65535, 0],
        ...[0x1_0001, 0, 1, 0, 0, 0, 0xffff_ffff, 0xffff],
        ...words(new Uint8Array(16).fill(0xa5), 4),
      ]);
    });
    await closeClean(m);
  });

  it("tells the size that is needed, and copies as much of the head as was asked for", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const bytes = await info(m, task, 17);
      expect(words(bytes, 4)).toEqual([104, 3, 0x4020_1000, 0]);
      expect([...bytes.subarray(16, 19)]).toEqual([0, 0xa5, 0xa5]);
    });
    await closeClean(m);
  });

  it("packs the chain without alignment in Linux 6.1", async () => {
    const m = await machine({ profile: "linux-6.1" });
    await m.run(async (task) => {
      const bytes = await info(m, task, 24);
      expect(words(bytes, 1)).toEqual([100]);
    });
    await closeClean(m);
  });

  it("cuts reserved regions out of the ranges, relaxable ones not (F21, F24)", async () => {
    const m = await machine();
    m.ops().reservedRegions = () => [
      { start: 0xfee0_0000n, length: 0x10_0000n, type: "msi", prot: 0 },
      { start: 0n, length: 0x100_0000n, type: "direct-relaxable", prot: 0 },
    ];
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      expect((await container.info()).iovaRanges).toEqual([
        { start: 0n, end: 0xfedf_ffffn },
        { start: 0xfef0_0000n, end: (1n << 48n) - 1n },
      ]);
      const vaddr = await memory(task, 1);
      expect(await errnoOf(container.mapDma({ iova: 0xfee0_0000n, vaddr, size: PAGE }))).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it.each([
    ["whose aperture has nothing in common with the others'", { start: 1n << 50n, end: (1n << 51n) - 1n }, 0n],
    ["whose reserved regions leave nothing", { start: 0n, end: (1n << 48n) - 1n }, 1n << 48n],
  ])("keeps a group out %s: EINVAL, though nothing is mapped (F21)", async (_what, aperture, reserved) => {
    const other = "0001:00:06.0";
    const m = await machine({ iommus: 2, devices: [A, other] });
    const alloc = m.ops(1).domainAlloc.bind(m.ops(1));
    m.ops(1).domainAlloc = (type, device) => Object.assign(alloc(type, device), { aperture });
    m.ops(1).reservedRegions = () => [{ start: 0n, length: reserved, type: "reserved", prot: 0 }];
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A]);
      const before = await container.info();
      expect(await errnoOf(container.attach(m.group(other)))).toBe("EINVAL");
      expect(await container.info()).toEqual(before);
      expect(m.domainOf(other)).toBe(m.platform.device(other).group?.defaultDomain);
    });
    await closeClean(m);
  });

  it("offers the page sizes that every domain takes, and a page for whatever is smaller (F9)", async () => {
    const m = await machine({ iommus: 2, devices: [A, "0001:00:06.0"] });
    const sizes = [0x4020_1000n, 0x20_0200n];
    for (const [n, pgsizeBitmap] of sizes.entries()) {
      const alloc = m.ops(n).domainAlloc.bind(m.ops(n));
      m.ops(n).domainAlloc = (type, device) => Object.assign(alloc(type, device), { pgsizeBitmap });
    }
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A]);
      expect((await container.info()).pgsizes).toBe(0x4020_1000n);
      await container.attach(m.group("0001:00:06.0"));
      expect((await container.info()).pgsizes).toBe(0x20_0000n);
    });
    await closeClean(m);
  });

  it("counts the mappings that may still be made from the limit at the time of SET_IOMMU", async () => {
    const m = await machine({ params: { dmaEntryLimit: 4 } });
    await m.run(async (task) => {
      const container = await containerWith(m, task);
      vfioOf(m.platform).params.dmaEntryLimit = 100;
      expect((await container.info()).dmaAvail).toBe(4);
    });
    await closeClean(m);
  });
});
