/**
 * Machines whose n-th allocation fails, for every n: from the bring-up of the IOMMU through devices, domains, processes and a
 * VFIO program to the end. The step that needed it says so with an errno, goes through when it is tried again, and nothing is
 * left behind. One allocation is left out: without memory for a fault group the device's page requests are switched off
 * (E13), which is not to be tried again.
 */
import {
  type AddressSpace,
  createPlatform,
  type Device,
  IOMMU_SVA_FEAT_IOPF,
  type IommuDomain,
  IommuError,
  type IommuPlugin,
  IommuProt,
  iommuMap,
  iommuUnmap,
  isErrno,
  type Platform,
  type Task,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { PRESETS, vtd } from "@iommukit/iommu-vtd";
import { accelerator, type PciDevice, rootPort } from "@iommukit/pci-device";
import { VfioContainer, type VfioDevice, type VfioGroup, vfioType1 } from "@iommukit/vfio-type1";
import { describe, expect, it } from "vitest";

const FIRST = "0000:01:00.0";
const PORT = { bdf: "0000:00:1c.0", secondary: 1 };
const SECOND = "0000:02:00.0";
const RW = IommuProt.READ | IommuProt.WRITE;
const PA = 0x1_0100_0000;
const IOVA = 0x10_0000_0000n;
const SIZE = 0x40_3000n;

interface Backend {
  readonly name: string;
  readonly iommu: () => IommuPlugin;
  readonly sva: boolean;
}

const backends: readonly Backend[] = [
  { name: "smmuv3", iommu: () => smmuv3(), sva: true },
  { name: "vtd", iommu: () => vtd(), sva: true },
  { name: "vtd in legacy mode", iommu: () => vtd({ preset: PRESETS["qemu-11-q35"] }), sva: false },
];

type Step = readonly [name: string, body: () => Promise<unknown>];

function bringUp(platform: Platform, { iommu }: Backend): Step[] {
  return [
    ["iommu", () => platform.addIommu(iommu())],
    ["first device", () => platform.plug(rootPort({ ...PORT, devices: [accelerator({ bdf: FIRST })] }))],
    ["second device", () => platform.plug(accelerator({ bdf: SECOND }))],
  ];
}

async function write(device: Device, pasid: number, at: bigint): Promise<void> {
  const { status } = await (device.pci as PciDevice).dma.write(pasid, at, new Uint8Array(0x9000));
  if (status !== 0) throw new IommuError("EFAULT", `DMA ended with status ${status}`);
}

/** A process on both devices. */
function sharing(platform: Platform): Step[] {
  const { sva, kernel } = platform;
  const device = (bdf: string) => platform.device(bdf);
  let mm: AddressSpace;
  let at = 0n;
  let pasid = -1;
  const init = (bdf: string) => sva.iommuSvaDeviceInit(device(bdf), IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
  const bind = (bdf: string) => sva.iommuSvaBindDevice(device(bdf), mm, IOMMU_SVA_FEAT_IOPF);
  return [
    ["init first", () => init(FIRST)],
    ["init second", () => init(SECOND)],
    [
      "process",
      async () => {
        mm = kernel.spawn().mm as AddressSpace;
        at = await mm.mmap({ length: 0x4_0000 });
      },
    ],
    [
      "bind first",
      async () => {
        pasid = await bind(FIRST);
      },
    ],
    ["bind second", () => bind(SECOND)],
    [
      "write",
      async () => {
        device(FIRST).pci.writeConfig(4, 2, 6);
        await write(device(FIRST), pasid, at + 0x1000n);
      },
    ],
    ["munmap", () => mm.munmap(at + 0x2000n, 0x2000)],
    ["unbind second", () => sva.iommuSvaUnbindDevice(device(SECOND), pasid)],
    ["bind second again", () => bind(SECOND)],
    ["shutdown second", () => sva.iommuSvaDeviceShutdown(device(SECOND))],
  ];
}

/** A domain of the kernel's own for the second device; then the device goes and comes back. */
function mapping(platform: Platform): Step[] {
  const { groups } = platform;
  let domain: IommuDomain;
  const group = () => platform.device(SECOND).group ?? expect.fail("no group");
  return [
    [
      "domain",
      async () => {
        const device = platform.device(SECOND);
        domain = device.iommu?.ops.domainAlloc("unmanaged", device) ?? expect.fail("no IOMMU");
      },
    ],
    ["claim", () => groups.claimDmaOwner(group(), platform)],
    ["attach", () => groups.attachGroup(domain, group())],
    ["map", async () => iommuMap(domain, IOVA, PA, SIZE, RW)],
    ["map far away", async () => iommuMap(domain, 0x7f_c000_0000n, PA, 0x1000n, RW)],
    ["unmap", async () => expect(await iommuUnmap(domain, IOVA, SIZE)).toBe(SIZE)],
    ["map a block", async () => iommuMap(domain, IOVA, PA, 0x20_0000n, RW)],
    [
      "end",
      async () => {
        await iommuUnmap(domain, IOVA, 0x20_0000n);
        await iommuUnmap(domain, 0x7f_c000_0000n, 0x1000n);
        await groups.detachGroup(domain, group());
        await groups.releaseDmaOwner(group());
        domain.ops.domainFree(domain);
      },
    ],
    ["unplug", () => platform.unplug(SECOND)],
    ["plug again", () => platform.plug(accelerator({ bdf: SECOND }))],
  ];
}

/** A VFIO program with both devices. */
function program(platform: Platform, { sva }: Backend): Step[] {
  let task: Task;
  let container: VfioContainer;
  let group: VfioGroup;
  let device: VfioDevice;
  let vaddr = 0n;
  let pasid = -1;
  const id = (bdf: string) => platform.device(bdf).group?.id ?? -1;
  const dma = { iova: IOVA, size: 0x8000 };
  const bound: Step[] = [
    [
      "bind",
      async () => {
        pasid = await container.bind();
      },
    ],
    ["write", () => write(platform.device(FIRST), pasid, vaddr)],
  ];
  return [
    ["vfio", () => platform.addService(vfioType1())],
    [
      "program",
      async () => {
        task = platform.kernel.spawn();
        vaddr = await (task.mm as AddressSpace).mmap({ length: 0x1_0000 });
        container = await VfioContainer.open(task);
      },
    ],
    [
      "attach first",
      async () => {
        group = await container.attach(id(FIRST));
      },
    ],
    ["set iommu", () => container.setIommu()],
    [
      "device",
      async () => {
        device = await group.device(FIRST);
        platform.device(FIRST).pci.writeConfig(4, 2, 6);
      },
    ],
    ["map", () => container.mapDma({ ...dma, vaddr })],
    ...(sva ? bound : []),
    ["attach second", () => container.attach(id(SECOND))],
    ["dirty", () => container.startDirtyTracking()],
    ["unmap", () => container.unmapDma(dma)],
    ["map again", () => container.mapDma({ ...dma, vaddr })],
    ["close", () => device.close()],
    ["exit", () => task.exit()],
  ];
}

/** @returns allocations, the step whose allocation failed, and what went wrong */
async function run(backend: Backend, steps: (platform: Platform, backend: Backend) => Step[], nth: number) {
  let count = 0;
  let what = "";
  let armed = true;
  const fails = (owner: string) => {
    if (!armed || owner === "iopf_group" || ++count !== nth) return false;
    what = owner;
    return true;
  };
  const platform = await createPlatform({ iommus: [], pages: { failAlloc: fails, poison: 0xa5 } });
  platform.kernel.allocationFails = fails;
  const wrong: string[] = [];
  for (const [name, body] of [...bringUp(platform, backend), ...steps(platform, backend)]) {
    const before = count;
    try {
      await platform.run(async () => void (await body()));
    } catch (error) {
      if (!isErrno(error)) throw error;
      if (what === "" || before >= nth) wrong.push(`${name}: ${error.message}, without need`);
      await platform.run(async () => void (await body())).catch((again) => wrong.push(`${name}, again: ${again}`));
    }
  }
  armed = false;
  const leaks = await platform.close();
  return { count, wrong: [...wrong, ...leaks].map((line) => `${what} (${nth}): ${line}`) };
}

describe.each(backends)("$name", (backend) => {
  const flows = { ...(backend.sva ? { sharing } : {}), mapping, program };
  it.each(Object.entries(flows))("%s goes on after any allocation has failed (L-21) (S-4) (E13)", async (_, steps) => {
    const { count, wrong } = await run(backend, steps, 0);
    expect(wrong).toEqual([]);
    expect(count).toBeGreaterThan(10);
    for (let nth = 1; nth <= count; nth++) wrong.push(...(await run(backend, steps, nth)).wrong);
    expect(wrong).toEqual([]);
  });
});
