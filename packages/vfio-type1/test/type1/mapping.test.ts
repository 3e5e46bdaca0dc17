import { type Device, IommuProt } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { VfioContainer, VfioExtension, vfioOf } from "../../src/index.js";
import { A, B, closeClean, containerWith, errnoOf, machine, memory, PAGE } from "../support/machine.js";

describe("VFIO_IOMMU_MAP_DMA", () => {
  it("pins the pages, maps them in every domain and charges the process (F14, F20)", async () => {
    const m = await machine({ iommus: 2, devices: [A, "0001:00:06.0"] });
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, "0001:00:06.0"]);
      const vaddr = await memory(task, 4);
      await container.mapDma({ iova: 0x10000n, vaddr, size: 4n * PAGE });
      expect(m.domainOf(A)).not.toBe(m.domainOf("0001:00:06.0"));
      for (const bdf of [A, "0001:00:06.0"]) expect(m.domainOf(bdf).pages.size).toBe(4);
      expect(task.mm?.lockedVm).toBe(4);
      expect(await container.unmapDma({ iova: 0n, size: 0x100000n })).toBe(4n * PAGE);
      expect(task.mm?.lockedVm).toBe(0);
    });
    await closeClean(m);
  });

  it.each([0, 1])("is in no domain when that behind IOMMU %i refuses it, whichever comes first (F22)", async (unit) => {
    const m = await machine({ iommus: 2, devices: [A, "0001:00:06.0"] });
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, "0001:00:06.0"]);
      const vaddr = await memory(task, 4);
      m.ops(unit).fail("map", "ENOMEM");
      expect(await errnoOf(container.mapDma({ iova: 0n, vaddr, size: 4n * PAGE }))).toBe("ENOMEM");
      for (const bdf of [A, "0001:00:06.0"]) expect(m.domainOf(bdf).pages.size).toBe(0);
      expect(task.mm?.lockedVm).toBe(0);
      expect((await container.info()).dmaAvail).toBe(65535);
    });
    await closeClean(m);
  });

  it("is refused with EINVAL before SET_IOMMU (F4, V-9)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      await container.attach(m.group(A));
      const vaddr = await memory(task, 1);
      await expect(container.mapDma({ iova: 0n, vaddr, size: PAGE })).rejects.toThrow(
        "EINVAL: ioctl 0x3b71 on a container without an IOMMU: SET_IOMMU first",
      );
    });
    await closeClean(m);
  });
});

describe("the domain compatibility check", () => {
  it("puts groups behind one IOMMU into one domain, and says why (F22)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      await containerWith(m, task, [A, B]);
      expect(m.domainOf(A)).toBe(m.domainOf(B));
      expect(m.seen("domain:compared")).toMatchObject([
        { compatible: true, group: m.group(A), reason: "same ops (fake-iommu), same prot (4)" },
      ]);
    });
    await closeClean(m);
  });

  it.each(["iommukit", "seed"] as const)(
    "of %s keeps a device that is not coherent in a domain of its own: prot differs (F22)",
    async (profile) => {
      const m = await machine({ profile });
      m.ops().capable = (device?: Device, cap?: string) => cap !== "cache-coherency" || device?.name === A;
      await m.run(async (task) => {
        const container = await containerWith(m, task, [A, B]);
        expect(m.domainOf(A)).not.toBe(m.domainOf(B));
        expect(m.seen("domain:compared")).toMatchObject([
          { compatible: false, reason: /^prot differs: [04] here, [04] there$/ },
        ]);
        const prots: number[] = [];
        const map = m.ops().map.bind(m.ops());
        m.ops().map = (domain, iova, pa, pgsize, count, prot = 0) => {
          prots.push(prot);
          return map(domain, iova, pa, pgsize, count);
        };
        await container.mapDma({ iova: 0n, vaddr: await memory(task, 1), size: PAGE });
        expect(prots.toSorted((a, b) => a - b)).toEqual([
          IommuProt.READ | IommuProt.WRITE,
          IommuProt.READ | IommuProt.WRITE | IommuProt.CACHE,
        ]);
      });
      await closeClean(m);
    },
  );

  it.each(["linux-6.1", "linux-6.12", "linux-7.3"] as const)(
    "does not arise in %s: a device that is not coherent is not VFIO's (__vfio_register_dev)",
    async (profile) => {
      const m = await machine({ profile, devices: [A] });
      const device = m.platform.device(A);
      await m.platform.run(() => vfioOf(m.platform).unbind(device));
      m.ops().capable = () => false;
      expect(() => vfioOf(m.platform).bind(device)).toThrow(/EINVAL/);
      expect([device.driver, m.kernel.nodes.has(`/dev/vfio/${m.group()}`)]).toEqual([undefined, false]);
      m.ops().capable = () => true;
      vfioOf(m.platform).bind(device);
      expect(device.driver).toBe("vfio-pci");
      await closeClean(m);
    },
  );

  it("keeps groups behind two IOMMUs apart: their ops are not the same object", async () => {
    const m = await machine({ iommus: 2, devices: [A, "0001:00:06.0"] });
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A, "0001:00:06.0"]);
      expect(m.seen("domain:compared")).toMatchObject([{ compatible: false, reason: /^ops differ/ }]);
      expect(await container.bind()).toBeGreaterThan(0);
      expect(m.platform.sva.inUse()).toMatchObject({ bonds: 2, pasids: 1 });
    });
    await closeClean(m);
  });

  it("replays mappings into the domain of a group that comes later", async () => {
    const m = await machine({ iommus: 2, devices: [A, "0001:00:06.0"] });
    await m.run(async (task) => {
      const container = await containerWith(m, task, [A]);
      const vaddr = await memory(task, 2);
      await container.mapDma({ iova: 0x10000n, vaddr, size: 2n * PAGE });
      await container.attach(m.group("0001:00:06.0"));
      expect(m.domainOf("0001:00:06.0").pages).toEqual(m.domainOf(A).pages);
    });
    await closeClean(m);
  });
});

describe("a container", () => {
  it("loses its mappings and its IOMMU with the last group (F3, F23)", async () => {
    const m = await machine();
    await m.run(async (task) => {
      const container = await VfioContainer.open(task);
      const group = await container.attach(m.group(A));
      await container.setIommu(VfioExtension.TYPE1_IOMMU);
      const vaddr = await memory(task, 1);
      await container.mapDma({ iova: 0n, vaddr, size: PAGE });
      await group.unsetContainer();
      expect(task.mm?.lockedVm).toBe(0);
      expect(await errnoOf(container.mapDma({ iova: 0n, vaddr, size: PAGE }))).toBe("EINVAL");
    });
    await closeClean(m);
  });
});
