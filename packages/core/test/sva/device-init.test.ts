import { describe, expect, it } from "vitest";
import { Device } from "../../src/index.js";
import { FakePciFunction } from "../../src/testing/index.js";
import { IOPF, machine } from "./machine.js";

describe("iommu_sva_device_init", () => {
  it("accepts no feature, or IOPF, and refuses every other bit with EINVAL (A1)", async () => {
    const { run, device, sva } = machine();
    await run(async () => {
      for (const features of [2, 3, 0x100, 0x8000_0000]) {
        await expect(sva.iommuSvaDeviceInit(await device("0000:01:00.0"), features, 0)).rejects.toThrow("EINVAL");
      }
      const none = await device("0000:02:00.0");
      await sva.iommuSvaDeviceInit(none, 0, 0);
      expect(none.svaParam?.features).toBe(0);
      const iopf = await device("0000:03:00.0");
      await sva.iommuSvaDeviceInit(iopf, IOPF, 0);
      expect(iopf.svaParam?.features).toBe(1);
    });
  });

  it("answers ENODEV without a domain or a driver that can do it (A2)", async () => {
    const { run, device, sva, ops } = machine();
    await run(async () => {
      const alone = new Device("0000:04:00.0", 0, new FakePciFunction("0000:04:00.0"));
      await expect(sva.iommuSvaDeviceInit(alone, IOPF, 0)).rejects.toThrow("ENODEV");
      const dev = await device();
      Object.defineProperty(ops, "svaDeviceInit", { value: undefined });
      await expect(sva.iommuSvaDeviceInit(dev, IOPF, 0)).rejects.toThrow("ENODEV");
      expect(dev.svaParam).toBeUndefined();
    });
  });

  // Patch 09/40 registers the fault handler first, and iommu_register_device_fault_handler takes one for each device.
  it.each([
    [0, "EEXIST"],
    [IOPF, "EBUSY"],
  ])("answers the second time, features %i, with %s, and changes nothing (A2) (S-11)", async (features, errno) => {
    const { run, svaDevice, sva, ops } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const before = dev.svaParam;
      await expect(sva.iommuSvaDeviceInit(dev, features, 5)).rejects.toThrow(errno);
      expect(dev.svaParam).toBe(before);
      expect(ops.calls).toEqual([]);
      const fault = { pasid: 1, grpid: 0, address: 0n, perm: 1, last: true, responseNeedsPasid: true };
      sva.report(dev, fault);
      await sva.flushDevice(dev, 1);
      expect(ops.responses).toHaveLength(1);
    });
  });

  it.each([0, IOPF])("answers EEXIST with features %i after an init without page faults (A2)", async (features) => {
    const { run, svaDevice, sva } = machine();
    await run(async () => {
      const dev = await svaDevice("0000:01:00.0", { features: 0 });
      await expect(sva.iommuSvaDeviceInit(dev, features, 0)).rejects.toThrow("EEXIST");
      expect(dev.svaParam?.features).toBe(0);
      const fault = { pasid: 1, grpid: 0, address: 0n, perm: 1, last: true, responseNeedsPasid: true };
      expect(() => sva.report(dev, fault)).toThrow("EINVAL");
    });
  });

  it("looks for the domain's operations before it looks at the features (A1) (A2)", async () => {
    const { run, device, sva, ops } = machine();
    await run(async () => {
      const dev = await device();
      Object.defineProperty(ops, "svaDeviceInit", { value: undefined });
      await expect(sva.iommuSvaDeviceInit(dev, 2, 0)).rejects.toThrow("ENODEV");
    });
  });

  it("loses the fault handler of the first init when the second fails, with the seed's error path (S-11)", async () => {
    const { run, svaDevice, sva } = machine(["S-11"]);
    await run(async () => {
      const dev = await svaDevice();
      await expect(sva.iommuSvaDeviceInit(dev, 0, 0)).rejects.toThrow("EEXIST");
      const fault = { pasid: 1, grpid: 0, address: 0n, perm: 1, last: true, responseNeedsPasid: true };
      expect(() => sva.report(dev, fault)).toThrow("EINVAL");
    });
  });

  it.each([
    { asked: 0, driverMin: 1, driverMax: 0xfffff, min: 1, max: 0xfffff },
    { asked: 0x3f, driverMin: 1, driverMax: 0xfffff, min: 1, max: 0x3f },
    { asked: 0x3f, driverMin: 0, driverMax: 0xf, min: 0, max: 0xf },
  ])("limits PASIDs to what caller and driver both allow: $asked and $driverMin-$driverMax (A3)", async (row) => {
    const { run, svaDevice, ops } = machine();
    await run(async () => {
      ops.minPasid = row.driverMin;
      ops.maxPasid = row.driverMax;
      const dev = await svaDevice("0000:01:00.0", { maxPasid: row.asked });
      expect(dev.svaParam).toMatchObject({ minPasid: row.min, maxPasid: row.max });
    });
  });

  it("takes faults while the driver initialises the device, and none after that failed (A4)", async () => {
    const { run, device, sva, ops } = machine();
    await run(async () => {
      const dev = await device();
      const fault = { pasid: 1, grpid: 0, address: 0n, perm: 1, last: false, responseNeedsPasid: true };
      const init = ops.svaDeviceInit.bind(ops);
      ops.svaDeviceInit = async (...args) => {
        sva.report(dev, fault);
        await init(...args);
      };
      ops.fail("svaDeviceInit", "EBUSY");
      await expect(sva.iommuSvaDeviceInit(dev, IOPF, 0)).rejects.toThrow("EBUSY");
      expect(dev.svaParam).toBeUndefined();
      expect(() => sva.report(dev, fault)).toThrow("EINVAL");
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
      await sva.iommuSvaDeviceInit(dev, IOPF, 0);
      expect(sva.inUse().partials).toBe(1);
    });
  });

  it("takes no faults without IOPF (A4)", async () => {
    const { run, svaDevice, sva } = machine();
    await run(async () => {
      const dev = await svaDevice("0000:01:00.0", { features: 0 });
      const fault = { pasid: 1, grpid: 0, address: 0n, perm: 1, last: true, responseNeedsPasid: true };
      expect(() => sva.report(dev, fault)).toThrow("EINVAL");
    });
  });
});

describe("iommu_sva_device_shutdown", () => {
  it("removes every bond, then tells the driver, then answers what is left, then takes no more faults (A5) (E16)", async () => {
    const { run, svaDevice, sva, ops, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const a = await sva.iommuSvaBindDevice(dev, mm(), IOPF);
      const b = await sva.iommuSvaBindDevice(dev, mm(), IOPF);
      ops.calls.length = 0;
      await sva.iommuSvaDeviceShutdown(dev);
      expect(ops.calls.filter((call) => !call.startsWith("mmFree"))).toEqual([
        `mmDetach 0000:01:00.0 ${a} last`,
        `mmDetach 0000:01:00.0 ${b} last`,
        "svaDeviceShutdown 0000:01:00.0",
      ]);
      expect(dev.svaParam).toBeUndefined();
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
      const fault = { pasid: 1, grpid: 0, address: 0n, perm: 1, last: true, responseNeedsPasid: true };
      expect(() => sva.report(dev, fault)).toThrow("EINVAL");
    });
  });

  it("answers what the device asked before it was stopped, from the hardware queue on (A6) (E9)", async () => {
    const { run, svaDevice, sva, ops } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const fault = { pasid: -1, grpid: 5, address: 0n, perm: 1, last: true, responseNeedsPasid: false };
      sva.registerQueueFlush(dev, async () => sva.report(dev, fault));
      await sva.iommuSvaDeviceShutdown(dev);
      expect(ops.calls).toEqual(["pageResponse 0000:01:00.0 5 invalid", "svaDeviceShutdown 0000:01:00.0"]);
    });
  });

  it("answers ENODEV when there is nothing to shut down (A5)", async () => {
    const { run, device, svaDevice, sva } = machine();
    await run(async () => {
      await expect(sva.iommuSvaDeviceShutdown(await device())).rejects.toThrow("ENODEV");
      const dev = await svaDevice("0000:02:00.0");
      await sva.iommuSvaDeviceShutdown(dev);
      await expect(sva.iommuSvaDeviceShutdown(dev)).rejects.toThrow("ENODEV");
      await sva.iommuSvaDeviceInit(dev, IOPF, 0);
    });
  });

  it("waits for a running mm_exit, whose drvdata the caller frees next (S-7)", async () => {
    const { run, svaDevice, sva, scheduler, mm } = machine();
    await run(async () => {
      const log: string[] = [];
      const dev = await svaDevice("0000:01:00.0", {
        mmExit: async () => {
          await scheduler.sleep(1000);
          log.push("mm_exit ends");
          return 0;
        },
      });
      const process = mm();
      await sva.iommuSvaBindDevice(dev, process, IOPF);
      scheduler.spawn("exit", () => process.mmput());
      await scheduler.sleep(10);
      await sva.iommuSvaDeviceShutdown(dev);
      log.push("shutdown ends");
      expect(log).toEqual(["mm_exit ends", "shutdown ends"]);
    });
  });

  it("lets nobody bind from its beginning on, and a second one wait for its end (A5) (A6)", async () => {
    const { run, svaDevice, sva, scheduler, ops, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      await sva.iommuSvaBindDevice(dev, mm(), IOPF);
      ops.delays.mmDetach = 1000;
      ops.delays.svaDeviceShutdown = 1000;
      scheduler.spawn("shutdown", () => sva.iommuSvaDeviceShutdown(dev));
      await scheduler.sleep(10);
      await expect(sva.iommuSvaBindDevice(dev, mm(), IOPF)).rejects.toThrow("EINVAL");
      await expect(sva.iommuSvaDeviceShutdown(dev)).rejects.toThrow("ENODEV");
      expect(scheduler.now).toBe(2000);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
  });
});

describe("a device that is being initialised", () => {
  it("is not bound before the driver has said which PASIDs it takes; a shutdown waits (A3) (A8)", async () => {
    const { run, device, sva, scheduler, ops, mm } = machine();
    await run(async () => {
      const dev = await device();
      ops.delays.svaDeviceInit = 1000;
      scheduler.spawn("init", () => sva.iommuSvaDeviceInit(dev, IOPF, 0));
      await scheduler.sleep(10);
      await expect(sva.iommuSvaBindDevice(dev, mm(), IOPF)).rejects.toThrow("EINVAL");
      await sva.iommuSvaDeviceShutdown(dev);
      expect(scheduler.now).toBe(1000);
      expect(ops.calls).toContain("svaDeviceShutdown 0000:01:00.0");
    });
  });
});
