/**
 * Which refusal a program sees when two things are wrong: the order of the checks in drivers/vfio/vfio_iommu_type1.c,
 * container.c and group.c (F3–F5, F11–F15, F19, F25), and in the patch for BIND (F28).
 */
import { type Task, user } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import {
  DirtyBitmap,
  DirtyBitmapGet,
  DmaMap,
  DmaUnmap,
  encodeStruct,
  type ProfileName,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNBIND,
  VFIO_IOMMU_UNMAP_DMA,
  VfioContainer,
  VfioExtension,
  VfioGroup,
} from "../../src/index.js";
import { A, B, closeClean, containerWith, errnoOf, machine, memory, PAGE } from "../support/machine.js";

const TOP = 0xffff_ffff_ffff_f000n;
const MAPPED = 0x10000n;
const V1 = VfioExtension.TYPE1_IOMMU;

function bytes(...words: readonly number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(words).buffer);
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** A container with one page mapped, whose pages are the program's first and second. */
async function mapped(
  body: (task: Task, container: VfioContainer, vaddr: bigint) => Promise<void>,
  { type, profile, dmaEntryLimit = 65535 }: { type?: number; profile?: ProfileName; dmaEntryLimit?: number } = {},
): Promise<void> {
  const m = await machine({ profile, params: { dmaEntryLimit } });
  await m.run(async (task) => {
    const container = await containerWith(m, task, [A], type);
    const vaddr = await memory(task, 2);
    await container.mapDma({ iova: MAPPED, vaddr, size: PAGE });
    await body(task, container, vaddr);
  });
  await closeClean(m);
}

describe("VFIO_IOMMU_MAP_DMA (vfio_iommu_type1_map_dma, vfio_dma_do_map)", () => {
  const good = { argsz: 32, flags: 3, vaddr: 0n, iova: 0x20000n, size: PAGE };
  const OLD = "linux-6.12";
  const NEW = "linux-7.3";

  it("looks for the whole structure before it looks at argsz", async () => {
    await mapped(async (task, { fd }) => {
      const short = encodeStruct(DmaMap, { ...good, argsz: 0 }).subarray(0, 31);
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_MAP_DMA, short))).toBe("EFAULT");
    });
  });

  it.each([
    ["an unknown flag before a wrap", NEW, { flags: 11, iova: TOP, size: 2n * PAGE }, "EINVAL"],
    ["a size of 0 before a wrap, which it cannot be", NEW, { iova: TOP, size: 0n }, "EINVAL"],
    ["a wrap before no flag at all", NEW, { flags: 0, iova: TOP, size: 2n * PAGE }, "EOVERFLOW"],
    ["a wrap before VADDR with READ", NEW, { flags: 5, vaddr: TOP, size: 2n * PAGE }, "EOVERFLOW"],
    ["a wrap of vaddr before the alignment", NEW, { vaddr: TOP + 1n, size: 2n * PAGE }, "EOVERFLOW"],
    ["no flag at all and a wrap", OLD, { flags: 0, iova: TOP, size: 2n * PAGE }, "EINVAL"],
    ["the alignment before ENOENT", OLD, { flags: 4, iova: 0x20001n }, "EINVAL"],
    ["the alignment before an overlap", OLD, { iova: MAPPED + 1n }, "EINVAL"],
    ["an overlap before memory that is not there", OLD, { iova: MAPPED }, "EEXIST"],
    ["an overlap before reserved IOVAs", OLD, { iova: MAPPED, size: 1n << 50n }, "EEXIST"],
    ["reserved IOVAs before memory that is not there", OLD, { iova: 1n << 50n }, "EINVAL"],
    ["VADDR finds nothing, whatever the IOVA", OLD, { flags: 4, iova: 1n << 50n }, "ENOENT"],
    ["VADDR finds a mapping, which is valid", OLD, { flags: 4, iova: MAPPED }, "EINVAL"],
    ["VADDR finds a mapping in a part of the range", OLD, { flags: 4, iova: MAPPED - PAGE, size: 2n * PAGE }, "EINVAL"],
  ] as const)("looks at %s (%s)", async (_what, profile, fields, errno) => {
    await mapped(
      async (task, { fd }) => {
        const arg = encodeStruct(DmaMap, { ...good, ...fields });
        expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_MAP_DMA, arg))).toBe(errno);
      },
      { profile },
    );
  });

  it("VADDR does not ask for a free entry, memory that cannot be locked stops before memory that is not there", async () => {
    await mapped(
      async (task, container, vaddr) => {
        expect(await errnoOf(container.mapDma({ iova: 0x20000n, vaddr: 0n, size: PAGE, flags: 4 }))).toBe("ENOENT");
        expect(await errnoOf(container.mapDma({ iova: 0x20000n, vaddr: 0n, size: PAGE }))).toBe("ENOSPC");
        await container.unmapAll();
        task.credentials = user(1000);
        task.limits.memlock = 0;
        // One page is there, the next is not: the first is charged before the second is looked for.
        const size = 16n * PAGE;
        expect(await errnoOf(container.mapDma({ iova: 0x20000n, vaddr: vaddr + PAGE, size }))).toBe("ENOMEM");
        task.limits.memlock = 4096;
        expect(await errnoOf(container.mapDma({ iova: 0x20000n, vaddr: vaddr + PAGE, size }))).toBe("EFAULT");
        expect(task.mm?.lockedVm).toBe(0);
      },
      { dmaEntryLimit: 1 },
    );
  });
});

describe("VFIO_IOMMU_UNMAP_DMA (vfio_iommu_type1_unmap_dma, vfio_dma_do_unmap)", () => {
  const head = { argsz: 48, flags: 1, iova: MAPPED, size: PAGE };
  const bitmap = (data: bigint, size = 8n, pgsize = 4096n) =>
    new Uint8Array(new BigUint64Array([pgsize, size, data]).buffer);

  it.each([
    ["argsz of 23 in a buffer of 23", { argsz: 23, flags: 0 }, new Uint8Array(0), 23, "EFAULT"],
    ["DIRTY with ALL, before argsz for the bitmap", { argsz: 24, flags: 3 }, new Uint8Array(0), 24, "EINVAL"],
    ["argsz without the bitmap, before the buffer", { argsz: 47 }, new Uint8Array(0), 24, "EINVAL"],
    ["a buffer without the bitmap, before the range", { size: 1n }, new Uint8Array(0), 24, "EFAULT"],
    ["a bitmap in the kernel's half", {}, bitmap(0xffff_8000_0000_0000n), 48, "EINVAL"],
    ["a bitmap that is nowhere, while tracking is off", {}, bitmap(0n), 48, "EINVAL"],
    ["a misaligned range with all of the rest right", { iova: 1n }, bitmap(0n), 48, "EINVAL"],
  ] as const)("answers %s", async (_what, fields, tail, length, errno) => {
    await mapped(async (task, { fd }) => {
      const arg = join(encodeStruct(DmaUnmap, { ...head, ...fields }), tail).subarray(0, length);
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_UNMAP_DMA, arg))).toBe(errno);
      expect(task.mm?.lockedVm).toBe(1);
    });
  });

  it("a bitmap that is nowhere is EFAULT while tracking is on, and its mapping stays", async () => {
    await mapped(async (task, container) => {
      await container.startDirtyTracking();
      expect(await errnoOf(container.unmapDma({ iova: MAPPED, size: PAGE }, { data: 0n, bytes: 8 }))).toBe("EFAULT");
      expect(task.mm?.lockedVm).toBe(1);
    });
  });
});

describe("VFIO_IOMMU_DIRTY_PAGES (vfio_iommu_type1_dirty_pages)", () => {
  const get = (range: { readonly iova?: bigint; readonly size?: bigint; readonly data?: bigint }) =>
    encodeStruct(DirtyBitmapGet, { iova: MAPPED, size: PAGE, pgsize: 4096n, bitmap_size: 8n, data: 0x1000n, ...range });
  const head = (argsz: number, flags = 4) => encodeStruct(DirtyBitmap, { argsz, flags });

  it("answers EACCES on a v1 container before it reads anything", async () => {
    await mapped(
      async (task, { fd }) =>
        expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_DIRTY_PAGES, new Uint8Array(0)))).toBe("EACCES"),
      { type: V1 },
    );
  });

  it.each([
    ["a buffer of 7, before argsz", "linux-6.12", head(0).subarray(0, 7), "EFAULT"],
    ["argsz without the range, before the buffer", "linux-6.12", head(47), "EINVAL"],
    ["a buffer without the range", "linux-6.12", head(48), "EFAULT"],
    [
      "a wrap, before the bitmap's address",
      "linux-7.3",
      join(head(48), get({ iova: TOP, size: 2n * PAGE, data: TOP })),
      "EOVERFLOW",
    ],
    ["a size of 0, before a wrap", "linux-7.3", join(head(48), get({ iova: TOP, size: 0n })), "EINVAL"],
    [
      "a range up to 2^64, which the old comparison takes for a wrap",
      "linux-6.12",
      join(head(48), get({ iova: TOP })),
      "EINVAL",
    ],
    ["that tracking is off, last of all", "linux-7.3", join(head(48), get({})), "EINVAL"],
  ] as const)("GET_BITMAP with tracking off answers %s (%s)", async (_what, profile, arg, errno) => {
    await mapped(
      async (task, { fd }) => expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_DIRTY_PAGES, arg.slice()))).toBe(errno),
      { profile },
    );
  });
});

describe("VFIO_IOMMU_GET_INFO (vfio_iommu_type1_get_info)", () => {
  it.each([
    ["a buffer of 15, before argsz", 0, 15, "EFAULT"],
    ["argsz of 15", 15, 16, "EINVAL"],
    ["a buffer that ends before what argsz promises", 1024, 64, "EFAULT"],
    ["a buffer of 16 with room said for 17", 17, 16, "EFAULT"],
  ] as const)("answers %s", async (_what, argsz, length, errno) => {
    await mapped(async (task, { fd }) => {
      const arg = join(bytes(argsz), new Uint8Array(2048)).subarray(0, length);
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_GET_INFO, arg))).toBe(errno);
    });
  });
});

describe("VFIO_IOMMU_BIND and UNBIND (vfio_iommu_type1_bind_process, patch 13/40)", () => {
  it.each([
    ["the head before argsz", bytes(0).subarray(0, 3), "EFAULT"],
    ["the mode before argsz for it, both EINVAL", bytes(8, 2), "EINVAL"],
    ["argsz before the buffer", bytes(19, 1), "EINVAL"],
    ["the buffer before the inner flags", bytes(20, 1, 2), "EFAULT"],
    ["the inner flags before the pid", bytes(20, 1, 3, 0, 4711), "EINVAL"],
  ])("look at %s", async (_what, arg, errno) => {
    await mapped(async (task, { fd }) => {
      for (const request of [VFIO_IOMMU_BIND, VFIO_IOMMU_UNBIND])
        expect(await errnoOf(task.ioctl(fd, request, arg.slice()))).toBe(errno);
    });
  });

  it("look at whom the caller may trace before they look at the container's groups, or at what is bound", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      const stranger = m.kernel.spawn({ credentials: user(4711) });
      task.credentials = user(1000);
      expect(await errnoOf(container.bind({ pid: stranger.pid }))).toBe("EACCES");
      expect(await errnoOf(container.unbind({ pid: stranger.pid }))).toBe("EACCES");
      expect(await errnoOf(container.unbind({ pid: 4711 }))).toBe("ESRCH");
      await group.unsetContainer();
      // Without an IOMMU nobody knows the request.
      expect(await errnoOf(container.bind({ pid: stranger.pid }))).toBe("EINVAL");
    });
    await closeClean(m);
  });
});

describe("VFIO_SET_IOMMU (vfio_ioctl_set_iommu)", () => {
  it("attaches the newest group first, whose refusal it answers with; those that were attached leave again", async () => {
    const m = await machine({ iommus: 2, devices: [A, "0001:00:06.0"] });
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      for (const bdf of [A, "0001:00:06.0"]) await container.attach(m.group(bdf));
      m.ops(0).fail("attachDev", "EBUSY");
      m.ops(1).fail("attachDev", "ENOMEM");
      expect(await errnoOf(container.setIommu())).toBe("ENOMEM");
      expect(await errnoOf(container.setIommu())).toBe("EBUSY");
      expect(m.domainOf("0001:00:06.0")).toBeUndefined();
      await container.setIommu();
    });
    await closeClean(m);
  });
});

describe("VFIO_GROUP_SET_CONTAINER (vfio_group_ioctl_set_container)", () => {
  it("looks for the descriptor before it asks whether the group has a container, and for its kind after that", async () => {
    const m = await machine({ devices: [A, B] });
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await VfioGroup.open(task, m.group(A));
      await group.setContainer(container.fd);
      expect(await errnoOf(group.setContainer(-1))).toBe("EBADF");
      expect(await errnoOf(group.setContainer(group.fd))).toBe("EINVAL");
      await group.unsetContainer();
      expect(await errnoOf(group.setContainer(group.fd))).toBe("EBADFD");
    });
    await closeClean(m);
  });
});
