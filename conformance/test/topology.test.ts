/** Hierarchies behind both IOMMUs: what the requester id on the wire means for domains. */
import {
  type AddressSpace,
  createPlatform,
  IommuError,
  type IommuPlugin,
  NO_PASID,
  type Platform,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import {
  Accelerator,
  accelerator,
  behind,
  disableVirtualFunctions,
  edu,
  enableVirtualFunctions,
  PciBridge,
  type PciDevice,
  type PhysicalFunction,
  pcieToPciBridge,
  rootPort,
} from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { describe, expect, it } from "vitest";

const BACKENDS: readonly (readonly [string, () => IommuPlugin])[] = [
  ["smmuv3", () => smmuv3()],
  ["vtd", () => vtd()],
];

/** A program that maps one page for the group of a device. */
async function mapPage(platform: Platform, bdf: string, iova: bigint): Promise<AddressSpace> {
  const task = platform.kernel.spawn();
  const mm = task.mm as AddressSpace;
  const vaddr = await mm.mmap({ length: 4096 });
  await mm.write(vaddr, Uint8Array.of(7));
  const container = await VfioContainer.open(task);
  await container.attach(platform.device(bdf).group?.id ?? 0);
  await container.setIommu();
  await container.mapDma({ iova, vaddr, size: 4096 });
  return mm;
}

describe.each(BACKENDS)("PCI hierarchies behind %s", (_name, iommu) => {
  it("translate for a device behind a bridge to conventional PCI under the bridge's id", async () => {
    const bdf = "0000:05:03.0";
    const platform = await createPlatform({
      iommus: [iommu()],
      devices: [pcieToPciBridge({ bdf: "0000:00:1e.0", secondary: 5, devices: [edu({ bdf })] })],
      services: [vfioType1()],
    });
    await platform.run(async () => {
      expect(platform.device(bdf).rid).toBe(0x500);
      expect(platform.device(bdf).group).toBe(platform.device("0000:00:1e.0").group);
      await mapPage(platform, bdf, 0x10_0000n);
      const pci = platform.device(bdf).pci as PciDevice;
      pci.writeConfig(4, 2, 6);
      const into = new Uint8Array(1);
      expect(pci.dma.tryRead(NO_PASID, 0x10_0000n, into)).toBe(0);
      expect(into[0]).toBe(7);
    });
    expect(await platform.close()).toEqual([]);
  });

  it("let a device behind a bridge to conventional PCI come back", async () => {
    const platform = await createPlatform({
      iommus: [iommu()],
      devices: [pcieToPciBridge({ bdf: "0000:00:1e.0", secondary: 5 })],
    });
    const bridge = platform.device("0000:00:1e.0").pci;
    if (!(bridge instanceof PciBridge)) throw new Error("no bridge");
    await platform.run(async () => {
      for (let i = 0; i < 3; i++) {
        await platform.plug(behind(bridge, edu({ bdf: "0000:05:03.0" })));
        await platform.unplug("0000:05:03.0");
      }
    });
    expect(await platform.close()).toEqual([]);
  });

  it("keep devices behind different ports apart", async () => {
    const [first, second] = ["0000:01:00.0", "0000:02:00.0"];
    const platform = await createPlatform({
      iommus: [iommu()],
      devices: [
        rootPort({ bdf: "0000:00:1c.0", secondary: 1, devices: [accelerator({ bdf: first })] }),
        rootPort({ bdf: "0000:00:1c.1", secondary: 2, devices: [accelerator({ bdf: second })] }),
      ],
      services: [vfioType1()],
    });
    await platform.run(async () => {
      await mapPage(platform, first, 0x10_0000n);
      const outcome = [first, second].map((bdf) => {
        const pci = platform.device(bdf).pci as PciDevice;
        pci.writeConfig(4, 2, 6);
        return pci.dma.tryRead(NO_PASID, 0x10_0000n, new Uint8Array(1)) === 0;
      });
      expect(outcome).toEqual([true, false]);
    });
    expect(await platform.close()).toEqual([]);
  });

  it("make all virtual functions or none", async () => {
    const bdf = "0000:01:00.0";
    const platform = await createPlatform({ iommus: [iommu()], devices: [accelerator({ bdf, totalVfs: 4 })] });
    const pf = platform.device(bdf).pci;
    if (!(pf instanceof Accelerator) || pf.virtualFunctions === undefined) throw new Error("no VFs");
    await platform.run(async () => {
      const { ops } = platform.iommus[0];
      const probe = ops.probeDevice.bind(ops);
      ops.probeDevice = async (dev) => {
        if (dev.name === "0000:01:00.3") throw new IommuError("ENOMEM", "no memory");
        await probe(dev);
      };
      await expect(enableVirtualFunctions(platform, pf as PhysicalFunction, 4)).rejects.toThrow("ENOMEM");
      expect([...platform.devices.keys()]).toEqual([bdf]);
      for (const count of [-1, 5])
        await expect(enableVirtualFunctions(platform, pf as PhysicalFunction, count)).rejects.toThrow("EINVAL");
      const vfs = await enableVirtualFunctions(platform, pf as PhysicalFunction, 2);
      await expect(enableVirtualFunctions(platform, pf as PhysicalFunction, 2)).rejects.toThrow("EINVAL");
      expect(vfs.map(({ name, pci }) => [name, pci.present])).toEqual([
        ["0000:01:00.1", true],
        ["0000:01:00.2", true],
      ]);
    });
    expect(await platform.close()).toEqual([]);
  });

  it("show a program virtual functions with ids, BARs and a memory space bit of its own", async () => {
    const bdf = "0000:01:00.0";
    const platform = await createPlatform({
      iommus: [iommu()],
      devices: [accelerator({ bdf, totalVfs: 4 })],
      services: [vfioType1()],
    });
    const pf = platform.device(bdf).pci as PhysicalFunction;
    await platform.run(async () => {
      const [, vf] = await enableVirtualFunctions(platform, pf, 2);
      const task = platform.kernel.spawn();
      const container = await VfioContainer.open(task);
      const group = await container.attach(vf.group?.id ?? 0);
      await container.setIommu();
      const device = await group.device(vf.name);
      const config = async (at: number) => new DataView((await device.read(7, at, 4)).buffer).getUint32(0, true);
      expect([await config(0), (await config(4)) & 0xffff]).toEqual([0x5a01_1234, 2]);
      const capability = await device.read(0, 0x10, 8);
      expect(capability.some((byte) => byte !== 0xff)).toBe(true);
      await device.write(7, 0x10, Uint8Array.of(0xff, 0xff, 0xff, 0xff));
      expect((await config(0x10)) & ~15).toBe(-pf.bars[0].size);
      await device.write(7, 4, Uint8Array.of(4, 0));
      expect([(await config(4)) & 0xffff, vf.pci.readConfig(4, 2)]).toEqual([4, 4]);
      // It is the physical function's VF MSE that counts.
      expect(await device.read(0, 0x10, 8)).toEqual(capability);
      await device.reset();
      expect([await config(0), (await config(4)) & 0xffff]).toEqual([0x5a01_1234, 4]);
      await task.exit();
      await disableVirtualFunctions(platform, pf);
    });
    expect(await platform.close()).toEqual([]);
  });

  it("give virtual functions domains of their own", async () => {
    const bdf = "0000:01:00.0";
    const platform = await createPlatform({
      iommus: [iommu()],
      devices: [accelerator({ bdf, totalVfs: 4 })],
      services: [vfioType1()],
    });
    const pf = platform.device(bdf).pci;
    if (!(pf instanceof Accelerator) || pf.virtualFunctions === undefined) throw new Error("no VFs");
    await platform.run(async () => {
      const vfs = await enableVirtualFunctions(platform, pf as PhysicalFunction, 2);
      expect(vfs.map(({ name }) => name)).toEqual(["0000:01:00.1", "0000:01:00.2"]);
      await mapPage(platform, "0000:01:00.2", 0x10_0000n);
      const outcome = [bdf, "0000:01:00.1", "0000:01:00.2"].map((name) => {
        const pci = platform.device(name).pci as PciDevice;
        pci.writeConfig(4, 2, 6);
        return pci.dma.tryRead(NO_PASID, 0x10_0000n, new Uint8Array(1)) === 0;
      });
      expect(outcome).toEqual([false, false, true]);
      for (const task of [...platform.kernel.tasks.values()]) await task.exit();
      await disableVirtualFunctions(platform, pf as PhysicalFunction);
      expect([...platform.devices.keys()]).toEqual([bdf]);
    });
    expect(await platform.close()).toEqual([]);
  });
});

describe("two devices behind one bridge to conventional PCI", () => {
  const devices = ["0000:05:03.0", "0000:05:04.0"].map((bdf) => edu({ bdf }));
  const bridge = pcieToPciBridge({ bdf: "0000:00:1e.0", secondary: 5, devices });

  it.each(["0000:05:03.0", "0000:05:04.0"])("share the bridge's id and a domain with VT-d (%s) (I14)", async (bdf) => {
    const platform = await createPlatform({ iommus: [vtd()], devices: [bridge], services: [vfioType1()] });
    await platform.run(async () => {
      expect(platform.device(bdf).group?.devices.length).toBe(3);
      await mapPage(platform, bdf, 0x10_0000n);
      for (const name of ["0000:05:03.0", "0000:05:04.0"]) {
        const pci = platform.device(name).pci as PciDevice;
        pci.writeConfig(4, 2, 6);
        const into = new Uint8Array(1);
        expect(pci.dma.tryRead(NO_PASID, 0x10_0000n, into)).toBe(0);
        expect(into[0]).toBe(7);
      }
    });
    expect(await platform.close()).toEqual([]);
  });

  it("are refused by the SMMU's driver, which knows one device per StreamID", async () => {
    await expect(createPlatform({ iommus: [smmuv3()], devices: [bridge] })).rejects.toThrow(
      "EBUSY: 0000:05:04.0: StreamID 0x500 is 0000:05:03.0's",
    );
  });
});
