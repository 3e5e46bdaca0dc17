import { describe, expect, it } from "vitest";
import { createPlatform, type DevicePlugin, IOMMU_SVA_FEAT_IOPF, type PlatformOptions } from "../../src/index.js";
import { type FakeIommuOps, FakePciFunction, fakeIommu } from "../../src/testing/index.js";

const BDF = "0000:01:00.0";
const card: DevicePlugin = { name: "card", segment: 0, create: () => [new FakePciFunction(BDF)] };

async function machine(options: Partial<PlatformOptions> = {}) {
  const platform = await createPlatform({ iommus: [fakeIommu], devices: [card], ...options });
  const ops = platform.iommus[0].ops as FakeIommuOps;
  ops.calls.length = 0;
  return { platform, ops, sva: platform.sva, dev: platform.device(BDF) };
}

describe("Platform.unplug", () => {
  it.each(["seed", "mainline"] as const)(
    "removes bonds, stops page requests, answers what is pending, detaches, releases; core %s (A5) (E16) (L-6)",
    async (flavour) => {
      const { platform, ops, sva, dev } = await machine({ sva: flavour });
      const task = platform.kernel.spawn();
      await platform.run(async () => {
        await sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
        if (!task.mm) throw new Error("no address space");
        const pasid = await sva.iommuSvaBindDevice(dev, task.mm, IOMMU_SVA_FEAT_IOPF);
        sva.report(dev, { pasid, grpid: 4, address: 0n, perm: 1, last: false, responseNeedsPasid: true });
        ops.calls.length = 0;
        await platform.unplug(BDF);
      });
      expect(ops.calls.filter((call) => !call.startsWith("mmFree"))).toEqual([
        "mmDetach 0000:01:00.0 1 last",
        "svaDeviceShutdown 0000:01:00.0",
        "detachDev 0000:01:00.0 1",
        "domainFree 1",
        "releaseDevice 0000:01:00.0",
      ]);
      expect(platform.devices.size).toBe(0);
      expect(() =>
        sva.report(dev, { pasid: 1, grpid: 4, address: 0n, perm: 1, last: true, responseNeedsPasid: true }),
      ).toThrow("EINVAL");
      expect(await platform.close()).toEqual([]);
    },
  );

  it("waits for a shutdown that is on its way (A5) (L-6)", async () => {
    const { platform, ops, sva, dev } = await machine();
    await platform.run(async () => {
      await sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0);
      ops.delays.svaDeviceShutdown = 1000;
      platform.scheduler.spawn("shutdown", () => sva.iommuSvaDeviceShutdown(dev));
      await platform.scheduler.sleep(10);
      ops.calls.length = 0;
      await platform.unplug(BDF);
      expect(platform.scheduler.now).toBe(1000);
      expect(ops.calls.slice(0, 2)).toEqual(["svaDeviceShutdown 0000:01:00.0", "detachDev 0000:01:00.0 1"]);
    });
    expect(await platform.close()).toEqual([]);
  });

  it("lets the device come back", async () => {
    const { platform, sva, dev } = await machine();
    await platform.run(async () => {
      await sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0);
      await platform.unplug(BDF);
      const [again] = await platform.plug(card);
      await sva.iommuSvaDeviceInit(again, IOMMU_SVA_FEAT_IOPF, 0);
    });
    expect(await platform.close()).toEqual([]);
  });
});

describe("Platform.plug", () => {
  it.each(["probeDevice", "attachDev"] as const)("leaves no trace of a device whose %s fails", async (op) => {
    const { platform, ops } = await machine();
    await platform.run(async () => {
      await platform.unplug(BDF);
      ops.fail(op, "ENODEV");
      await expect(platform.plug(card)).rejects.toThrow("ENODEV");
      expect([platform.devices.size, platform.groups.all.size]).toEqual([0, 0]);
      await platform.plug(card);
    });
    expect(await platform.close()).toEqual([]);
  });
});

describe("Platform.plug of several functions", () => {
  it("plugs all or none", async () => {
    const { platform, ops } = await machine();
    const gone: string[] = [];
    const functions = ["0000:02:00.0", "0000:02:00.1", "0000:02:00.2"].map((bdf) =>
      Object.assign(new FakePciFunction(bdf), { remove: () => gone.push(bdf) }),
    );
    const several: DevicePlugin = { name: "several", segment: 0, create: () => functions };
    await platform.run(async () => {
      ops.fail("probeDevice", "ENOMEM", 2);
      await expect(platform.plug(several)).rejects.toThrow("ENOMEM");
      expect([...platform.devices.keys()]).toEqual([BDF]);
      expect(platform.groups.all.size).toBe(1);
      expect(gone).toEqual(functions.map(({ bdf }) => bdf));
      expect((await platform.plug(several)).map(({ name }) => name)).toEqual(gone);
    });
    expect(await platform.close()).toEqual([]);
  });
});

describe("Platform.close", () => {
  it.each(["seed", "mainline"] as const)(
    "leaves nothing of processes that were bound; core %s (I-3) (L-21)",
    async (flavour) => {
      const { platform, sva, dev } = await machine({ sva: flavour });
      await platform.run(async () => {
        await sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
        for (let i = 0; i < 10; i++) {
          const { mm } = platform.kernel.spawn();
          if (mm) await sva.iommuSvaBindDevice(dev, mm, IOMMU_SVA_FEAT_IOPF);
        }
      });
      expect(await platform.close()).toEqual([]);
    },
  );
});
