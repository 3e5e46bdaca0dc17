/** Bytes that one more of something takes: on the JavaScript heap, and of modelled RAM. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type AddressSpace, createPlatform, PAGE_SIZE, type Platform, type Task } from "@iommukit/core";
import { accelerator } from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { BACKENDS } from "./product.js";

export interface MemoryRow {
  readonly what: string;
  readonly backend: string;
  readonly heap: number;
  readonly ram: number;
}

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");
const GIB = 2 ** 30;
const FIRST = "0000:01:00.0";

function heapUsed(): number {
  collect();
  const { heapUsed: objects, arrayBuffers } = process.memoryUsage();
  return objects + arrayBuffers;
}

function ramUsed({ pages }: Platform): number {
  let sum = 0;
  for (const count of pages.usage().values()) sum += count;
  return sum * PAGE_SIZE;
}

export async function memory(): Promise<MemoryRow[]> {
  const rows: MemoryRow[] = [];
  for (const [backend, iommu] of BACKENDS) {
    const platform = await createPlatform({
      iommus: [iommu()],
      devices: [accelerator({ bdf: FIRST })],
      services: [vfioType1()],
      ram: [{ base: 0x1_0000_0000, size: 3 * GIB }],
      mm: { hugePages: "always" },
    });
    const growth = async (what: string, count: number, body: (i: number) => Promise<void>) => {
      await body(0);
      const [heap, ram] = [heapUsed(), ramUsed(platform)];
      for (let i = 1; i <= count; i++) await body(i);
      rows.push({
        what,
        backend,
        heap: (heapUsed() - heap) / count,
        ram: (ramUsed(platform) - ram) / count,
      });
    };
    await platform.run(async () => {
      await growth("device", 64, async (i) => {
        await platform.plug(
          accelerator({
            bdf: `0000:02:${Math.floor(i / 8)
              .toString(16)
              .padStart(2, "0")}.${i % 8}`,
          }),
        );
      });
      const owner = await containerFor(platform, platform.kernel.spawn({ name: "owner" }), FIRST);
      await growth("bound process", 200, async (i) => {
        const { pid, mm } = platform.kernel.spawn({ name: `process ${i}` });
        const space = mm as AddressSpace;
        await space.write(await space.mmap({ length: PAGE_SIZE }), Uint8Array.of(1));
        await owner.bind({ pid });
      });
      const task = platform.kernel.spawn({ name: "large" });
      task.limits.memlock = 4 * GIB;
      const space = task.mm as AddressSpace;
      const container = await containerFor(platform, task, "0000:02:00.1");
      const vaddr = await space.mmap({ length: GIB, populate: true });
      await growth("GiB mapped", 2, async (i) => {
        await container.mapDma({ iova: BigInt(i + 4) * BigInt(GIB), vaddr, size: GIB });
      });
    });
    await platform.close();
  }
  return rows;
}

async function containerFor(platform: Platform, task: Task, bdf: string): Promise<VfioContainer> {
  const container = await VfioContainer.open(task);
  await container.attach(platform.device(bdf).group?.id ?? 0);
  await container.setIommu();
  return container;
}
