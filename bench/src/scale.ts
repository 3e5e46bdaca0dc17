/** Cost of one operation against how much there is already: devices, PASIDs, mappings, mapped memory. CPU time. */
import { type AddressSpace, createPlatform, type MemoryRegion } from "@iommukit/core";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator } from "@iommukit/pci-device";
import { Vfio, VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import type { Arch } from "./machine.js";
import { translationCost } from "./scale-chips.js";

export interface ScaleRow {
  readonly operation: string;
  /** What there is `size` of. */
  readonly unit: string;
  readonly size: number;
  /** Nanoseconds of CPU time of one operation. */
  readonly nanoseconds: number;
}

const PAGE = 4096n;
/** Above the interrupt range. */
const IOVA = 0x1_0000_0000n;
const GIB = 2 ** 30;
const BDF = "0000:01:00.0";
const RAM: readonly MemoryRegion[] = [{ base: 0x1_0000_0000, size: 4 * GIB }];
const REPEAT = 2000;
const TURNS = 5;

/** Numbers from `from` to `to` in steps of that factor, and `to` itself. */
function series(from: number, to: number, factor: number): number[] {
  const sizes: number[] = [];
  for (let size = from; size < to; size *= factor) sizes.push(size);
  return [...sizes, to];
}

/** Translations, with eight requesters that take turns, and with all of them: what the caches do then. */
function translations(arch: Arch, count: number): ScaleRow[] {
  const rows: ScaleRow[] = [];
  const add = (operation: string, unit: string, size: number, nanoseconds: number) =>
    rows.push({ operation: `${arch}: ${operation}`, unit, size, nanoseconds });
  for (const devices of series(1, 65_536, 16)) {
    add("translation, 8 active", "devices", devices, translationCost(arch, { devices, pasids: 1, active: 8 }, count));
    add(
      "translation, all active",
      "devices",
      devices,
      translationCost(arch, { devices, pasids: 1, active: devices }, count),
    );
  }
  for (const pasids of series(1, 1_048_575, 32)) {
    add("translation, 8 active", "PASIDs", pasids, translationCost(arch, { devices: 1, pasids, active: 8 }, count));
  }
  return rows;
}

/** MAP and UNMAP of one page in a container, between the mappings that it has: one after the other, and in places far apart. */
export async function mappings(most: number): Promise<ScaleRow[]> {
  const rows: ScaleRow[] = [];
  await inContainer(async (container, memory) => {
    const vaddr = await memory.mmap({ length: 4096, populate: true });
    let held = 1;
    const mapAndUnmap = (step: number) => async (i: number) => {
      const iova = IOVA + BigInt((i * step) % held) * 2n * PAGE + PAGE;
      await container.mapDma({ iova, vaddr, size: 4096 });
      await container.unmapDma({ iova, size: 4096 });
    };
    // The first size is to be as warm as the others.
    for (let i = 0; i < 3; i++) await timed(mapAndUnmap(1));
    held = 0;
    for (const size of series(10, most, 10)) {
      // Every other page: the ones between are free.
      for (; held < size; held++) await container.mapDma({ iova: IOVA + BigInt(held) * 2n * PAGE, vaddr, size: 4096 });
      const add = (where: string, nanoseconds: number) =>
        rows.push({ operation: `VFIO MAP + UNMAP 4 KiB, ${where}`, unit: "mappings", size, nanoseconds });
      add("in order", await timed(mapAndUnmap(1)));
      add("anywhere", await timed(mapAndUnmap(7919)));
    }
    await container.unmapAll();
  });
  return rows;
}

/** The same beside mappings of 1 GiB, all of the same memory of the program. */
async function mapped(most: number): Promise<ScaleRow[]> {
  const rows: ScaleRow[] = [];
  await inContainer(async (container, memory) => {
    const vaddr = await memory.mmap({ length: GIB, populate: true });
    let held = 0;
    for (const size of [1, ...series(4, most, 4)]) {
      for (; held < size; held++) await container.mapDma({ iova: BigInt(held + 4) * BigInt(GIB), vaddr, size: GIB });
      const nanoseconds = await timed(async (i) => {
        const iova = BigInt(i % 1024) * PAGE;
        await container.mapDma({ iova, vaddr, size: 4096 });
        await container.unmapDma({ iova, size: 4096 });
      });
      rows.push({ operation: "VFIO MAP + UNMAP 4 KiB", unit: "GiB mapped", size, nanoseconds });
    }
    await container.unmapAll();
  });
  return rows;
}

/** The best of several turns: the first ones pay for what was made before them, when the garbage collector looks through it. */
async function timed(body: (i: number) => Promise<void>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < TURNS; turn++) {
    const before = process.cpuUsage();
    for (let i = 0; i < REPEAT; i++) await body(i);
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, ((user + system) / REPEAT) * 1000);
  }
  return best;
}

async function inContainer(body: (container: VfioContainer, memory: AddressSpace) => Promise<void>): Promise<void> {
  const device = accelerator({ bdf: BDF, ats: null, pri: null, pasid: null });
  const platform = await createPlatform({
    iommus: [vtd()],
    devices: [device],
    services: [vfioType1()],
    ram: RAM,
    mm: { hugePages: "always" },
  });
  await platform.run(async () => {
    platform.resolve(Vfio).params.dmaEntryLimit = 2 ** 21;
    const task = platform.kernel.spawn({ name: "scale" });
    task.limits.memlock = Number.MAX_SAFE_INTEGER;
    const container = await VfioContainer.open(task);
    await container.attach(platform.device(BDF).group?.id ?? 0);
    await container.setIommu();
    await body(container, task.mm as AddressSpace);
  });
  const left = await platform.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join(", ")}`);
}

/** @param share of the largest sizes and counts: 1 for the documentation */
export async function scale(share = 1): Promise<ScaleRow[]> {
  const count = Math.ceil(1_000_000 * share);
  return [
    ...translations("smmuv3", count),
    ...translations("vtd", count),
    ...(await mappings(Math.max(1000, 1_000_000 * share))),
    ...(await mapped(Math.max(4, 64 * share))),
  ];
}
