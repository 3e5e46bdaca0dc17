/** The product's own path, as its users reach it: DMA of a device, VFIO ioctls, a platform from nothing. CPU time per operation. */
import {
  type AddressSpace,
  createPlatform,
  type IommuPlugin,
  type MemoryRegion,
  NO_PASID,
  type Platform,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, type PciDevice } from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";

export interface ProductRow {
  readonly operation: string;
  readonly backend: string;
  /** Microseconds of CPU time of one operation. */
  readonly microseconds: number;
}

export const BACKENDS: readonly (readonly [string, () => IommuPlugin])[] = [
  ["smmuv3", () => smmuv3()],
  ["vtd", () => vtd()],
];
const BDF = "0000:01:00.0";
const IOVA = 0x1_0000_0000n;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const RAM: readonly MemoryRegion[] = [{ base: 0x1_0000_0000, size: 2 * GIB }];
const SIZES: readonly (readonly [string, number, number])[] = [
  ["64 B", 64, 20_000],
  ["4 KiB", 4096, 10_000],
  ["1 MiB", MIB, 400],
];

interface Program {
  readonly platform: Platform;
  readonly memory: AddressSpace;
  readonly container: VfioContainer;
  readonly pci: PciDevice;
}

type Report = (operation: string, count: number, body: (i: number) => Promise<void> | void) => Promise<void>;

async function start(iommu: IommuPlugin, ats: boolean): Promise<Program> {
  const device = ats ? accelerator({ bdf: BDF }) : accelerator({ bdf: BDF, ats: null, pri: null, pasid: null });
  const platform = await createPlatform({ iommus: [iommu], devices: [device], services: [vfioType1()], ram: RAM });
  return platform.run(async () => {
    const task = platform.kernel.spawn({ name: "bench" });
    const container = await VfioContainer.open(task);
    await container.attach(platform.device(BDF).group?.id ?? 0);
    await container.setIommu();
    const pci = platform.device(BDF).pci as PciDevice;
    pci.writeConfig(4, 2, 6);
    return { platform, memory: task.mm as AddressSpace, container, pci };
  });
}

async function read({ pci }: Program, pasid: number, address: bigint, into: Uint8Array): Promise<void> {
  const { status } = await pci.dma.read(pasid, address, into);
  if (status !== 0) throw new Error(`DMA from 0x${address.toString(16)} ended with status ${status}`);
}

/** Requests without PASID on a VFIO mapping: every transaction asks the IOMMU. */
async function untranslated(program: Program, report: Report): Promise<void> {
  const { container, memory } = program;
  const span = 16 * MIB;
  const vaddr = await memory.mmap({ length: GIB });
  await container.mapDma({ iova: IOVA, vaddr, size: span });
  for (const [name, size, count] of SIZES) {
    const into = new Uint8Array(size);
    await report(`DMA ${name}, IOTLB hit`, count, () => read(program, NO_PASID, IOVA, into));
  }
  const into = new Uint8Array(64);
  const pages = span / 4096;
  await report("DMA 64 B, IOTLB miss", 20_000, (i) =>
    read(program, NO_PASID, IOVA + BigInt((i * 67) % pages) * 4096n, into),
  );
  await container.unmapAll();
  for (const [name, size, count] of [
    ["4 KiB", 4096, 50_000],
    ["2 MiB", 2 * MIB, 2000],
    ["1 GiB", GIB, 5],
  ] as const) {
    await report(`VFIO MAP + UNMAP ${name}`, count, async () => {
      await container.mapDma({ iova: IOVA, vaddr, size });
      await container.unmapDma({ iova: IOVA, size });
    });
  }
}

/** Requests of a bound process: the device's ATC answers, or a page request does. */
async function bound(program: Program, report: Report): Promise<void> {
  const { container, memory } = program;
  await report("VFIO BIND + UNBIND", 1500, async () => {
    await container.bind();
    await container.unbind();
  });
  const pasid = await container.bind();
  const buffer = await memory.mmap({ length: MIB });
  await memory.write(buffer, new Uint8Array(MIB));
  for (const [name, size, count] of SIZES) {
    const into = new Uint8Array(size);
    await report(`DMA ${name}, ATC hit`, count, () => read(program, pasid, buffer, into));
  }
  const into = new Uint8Array(64);
  const fresh = await memory.mmap({ length: 2048 * 4096 });
  await report("DMA 64 B, page request", 1800, (i) => read(program, pasid, fresh + BigInt(i) * 4096n, into));
  await container.unbind();
}

/** @param scale share of the usual number of repetitions */
export async function product(scale = 1): Promise<ProductRow[]> {
  const rows: ProductRow[] = [];
  for (const [backend, iommu] of BACKENDS) {
    const report: Report = async (operation, usual, body) => {
      const count = Math.ceil(usual * scale);
      for (let i = 0; i < count / 10; i++) await body(count + i);
      const before = process.cpuUsage();
      for (let i = 0; i < count; i++) await body(i);
      const { user, system } = process.cpuUsage(before);
      rows.push({ operation, backend, microseconds: (user + system) / count });
    };
    await report("platform composed and closed, warm", 3000, async () => {
      const platform = await createPlatform({ iommus: [iommu()], devices: [accelerator({ bdf: BDF })] });
      await platform.close();
    });
    for (const [ats, run] of [
      [false, untranslated],
      [true, bound],
    ] as const) {
      const program = await start(iommu(), ats);
      await program.platform.run(() => run(program, report));
      const left = await program.platform.close();
      if (left.length > 0) throw new Error(`${backend}: left behind: ${left.join(", ")}`);
    }
  }
  return rows;
}
