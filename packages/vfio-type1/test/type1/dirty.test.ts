/** VFIO_IOMMU_DIRTY_PAGES and GET_DIRTY_BITMAP (F25, V-4), and the kernel bug of the shifted bitmap. */
import type { Task } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import {
  DirtyBitmap,
  encodeStruct,
  type ProfileName,
  VFIO_IOMMU_DIRTY_PAGES,
  VfioContainer,
  VfioExtension,
} from "../../src/index.js";
import { A, closeClean, containerWith, errnoOf, machine, memory, PAGE } from "../support/machine.js";

async function tracked(task: Task, container: VfioContainer) {
  const data = await memory(task, 1);
  const get = async (iova: bigint, pages: bigint, bytes = 8) => {
    await task.mm?.write(data, new Uint8Array(bytes));
    await container.getDirtyBitmap({ iova, size: pages * PAGE }, { data, bytes });
    const bitmap = new Uint8Array(bytes);
    await task.mm?.read(data, bitmap);
    return Buffer.from(bitmap).toString("hex");
  };
  return { data, get };
}

async function setup(profile: ProfileName = "iommukit") {
  const m = await machine({ profile });
  return {
    m,
    run: (body: (task: Task, container: VfioContainer) => Promise<void>) =>
      m.run(async (task) => body(task, await containerWith(m, task))),
  };
}

describe("VFIO_IOMMU_DIRTY_PAGES", () => {
  it.each([0, 3, 5, 6, 7, 8, 0x8000_0001])("refuses flags 0x%i: exactly one is needed (V-4)", async (flags) => {
    const { m, run } = await setup();
    await run(async (task, { fd }) => {
      const arg = encodeStruct(DirtyBitmap, { argsz: 8, flags });
      expect(await errnoOf(task.ioctl(fd, VFIO_IOMMU_DIRTY_PAGES, arg))).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("starts twice and stops without a start, and gives EACCES on a v1 container (F25)", async () => {
    const { m, run } = await setup();
    await run(async (_task, container) => {
      await container.stopDirtyTracking();
      await container.startDirtyTracking();
      await container.startDirtyTracking();
    });
    await m.run(async (task) => {
      const other = await containerWith(m, task, ["0000:00:06.0"], VfioExtension.TYPE1_IOMMU);
      expect(await errnoOf(other.startDirtyTracking())).toBe("EACCES");
    });
    await closeClean(m);
  });

  it("calls every mapped page dirty, also what was mapped after START, each time: the device cannot tell (F25, V-5)", async () => {
    const { m, run } = await setup();
    await run(async (task, container) => {
      const vaddr = await memory(task, 16);
      await container.startDirtyTracking();
      await container.mapDma({ iova: 0x10000n, vaddr, size: 16n * PAGE, flags: 1 });
      const { get } = await tracked(task, container);
      expect(await get(0x10000n, 16n)).toBe("ffff000000000000");
      expect(await get(0x10000n, 16n)).toBe("ffff000000000000");
      expect(await get(0xe000n, 20n)).toBe("fcff030000000000");
      expect(await get(0x90_0000n, 1n)).toBe("0000000000000000");
    });
    await closeClean(m);
  });

  it("refuses a range that cuts a mapping, a bitmap that is too small, other page sizes, and memory that is not there (F25)", async () => {
    const { m, run } = await setup();
    await run(async (task, container) => {
      await container.mapDma({ iova: 0x10000n, vaddr: await memory(task, 16), size: 16n * PAGE });
      const data = await memory(task, 1);
      const get = (span: { iova: bigint; size: bigint }, bitmap: { data: bigint; bytes: number; pgsize?: number }) =>
        errnoOf(container.getDirtyBitmap(span, bitmap));
      const whole = { iova: 0x10000n, size: 16n * PAGE };
      expect(await get(whole, { data, bytes: 8 })).toBe("EINVAL");
      await container.startDirtyTracking();
      expect(await get(whole, { data, bytes: 8 })).toBe("success");
      expect(await get({ iova: 0x10000n, size: PAGE }, { data, bytes: 8 })).toBe("EINVAL");
      for (const bytes of [0, 1, 7, 0x1000_0001]) expect(await get(whole, { data, bytes })).toBe("EINVAL");
      for (const pgsize of [0, 1, 2048, 8192, 0x20_0000])
        expect(await get(whole, { data, bytes: 8, pgsize })).toBe("EINVAL");
      expect(await get(whole, { data: 0n, bytes: 8 })).toBe("EFAULT");
      expect(await get({ iova: 0x10000n, size: 0n }, { data, bytes: 8 })).toBe("EINVAL");
    });
    await closeClean(m);
  });

  it("gives the bits of mappings as they are unmapped, and nothing of those that stay", async () => {
    const { m, run } = await setup();
    await run(async (task, container) => {
      const vaddr = await memory(task, 8);
      const data = await memory(task, 1);
      for (const iova of [0x10000n, 0x18000n]) await container.mapDma({ iova, vaddr, size: 4n * PAGE });
      const whole = { iova: 0x10000n, size: 16n * PAGE };
      expect(await errnoOf(container.unmapDma(whole, { data, bytes: 8 }))).toBe("EINVAL");
      await container.startDirtyTracking();
      await task.mm?.write(data, new Uint8Array(8));
      expect(await container.unmapDma(whole, { data, bytes: 8 })).toBe(8n * PAGE);
      const bitmap = new Uint8Array(8);
      await task.mm?.read(data, bitmap);
      expect([...bitmap]).toEqual([0x0f, 0x0f, 0, 0, 0, 0, 0, 0]);
    });
    await closeClean(m);
  });

  it.each([
    ["linux-6.12", "0f0f000000000000"],
    ["iommukit", "0f00000000000000"],
  ] as const)(
    "after a GET from another base, %s shows %s: bits that the shift moved beyond the mapping",
    async (profile, stale) => {
      const { m, run } = await setup(profile);
      await run(async (task, container) => {
        await container.mapDma({ iova: 0x18000n, vaddr: await memory(task, 4), size: 4n * PAGE });
        await container.startDirtyTracking();
        const { get } = await tracked(task, container);
        expect(await get(0x10000n, 12n)).toBe("000f000000000000");
        expect(await get(0x18000n, 4n)).toBe(stale);
      });
      await closeClean(m);
    },
  );

  it("ends with the last group", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu();
      await container.startDirtyTracking();
      await group.unsetContainer();
      await group.setContainer(container.fd);
      await container.setIommu();
      const data = await memory(task, 1);
      expect(await errnoOf(container.getDirtyBitmap({ iova: 0n, size: PAGE }, { data, bytes: 8 }))).toBe("EINVAL");
    });
    await closeClean(m);
  });
});
