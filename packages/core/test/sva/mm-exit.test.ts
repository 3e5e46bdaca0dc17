import { describe, expect, it } from "vitest";
import { DeadlockError, IommuError, Mutex } from "../../src/index.js";
import { IOPF, machine } from "./machine.js";

describe("mmu_notifier release", () => {
  it("stops each device, silences the entry, drains, and removes the bond, before the pages go (C4) (C5)", async () => {
    const { run, sva, svaDevice, scheduler, ops, kernel, mm } = machine();
    await run(async () => {
      const log = ops.calls;
      const mmExit = async (dev: { name: string }, pasid: number, drvdata: unknown) => {
        log.push(`mm_exit ${dev.name} ${pasid} ${String(drvdata)}`);
        return 0;
      };
      const a = await svaDevice("0000:01:00.0", { mmExit });
      const b = await svaDevice("0000:02:00.0", { mmExit });
      for (const dev of [a, b]) sva.registerQueueFlush(dev, async () => void log.push(`flush ${dev.name}`));
      const process = mm("pid 7");
      await sva.bindDeviceLocked(a, process, IOPF, "container");
      await sva.bindDeviceLocked(b, process, IOPF, "driver");
      log.length = 0;
      let mapped = 0;
      const detach = ops.mmDetach.bind(ops);
      ops.mmDetach = (...args) => {
        mapped = process.mappings.length;
        return detach(...args);
      };
      await process.mmput();
      await scheduler.idle();
      expect(log).toEqual([
        "mm_exit 0000:02:00.0 1 driver",
        "mmExit 0000:02:00.0 1",
        "flush 0000:02:00.0",
        "mmDetach 0000:02:00.0 1 last",
        "flush 0000:02:00.0",
        "mm_exit 0000:01:00.0 1 container",
        "mmExit 0000:01:00.0 1",
        "flush 0000:01:00.0",
        "mmDetach 0000:01:00.0 1 last",
        "flush 0000:01:00.0",
        "mmFree",
      ]);
      expect(mapped).toBe(3);
      expect(process.mmCount).toBe(0);
      expect(kernel.log).toEqual([]);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
  });

  it("warns of a possible leak when mm_exit fails, and keeps the PASID until the device is shut down (C4) (S-10)", async () => {
    const { run, sva, svaDevice, kernel, scheduler, mm } = machine();
    await run(async () => {
      const dev = await svaDevice("0000:01:00.0", { mmExit: async () => -1 });
      const process = mm();
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      await process.mmput();
      expect(kernel.log).toEqual(["0000:01:00.0: possible leak of PASID 1"]);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 1, partials: 0 });
      expect(sva.iommuSvaFind(pasid)).toBeUndefined();
      expect(await sva.bindDeviceLocked(dev, mm(), IOPF)).toBe(2);
      await sva.iommuSvaDeviceShutdown(dev);
      await scheduler.idle();
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
      expect(process.mmCount).toBe(0);
    });
  });

  it("keeps the PASID once, though the driver cannot detach the device either (C4) (S-10)", async () => {
    const { run, sva, svaDevice, ops, scheduler, mm } = machine();
    await run(async () => {
      const dev = await svaDevice("0000:01:00.0", { mmExit: async () => -1 });
      const process = mm();
      await sva.bindDeviceLocked(dev, process, IOPF);
      ops.fail("mmDetach", "ETIMEDOUT");
      await process.mmput();
      expect(sva.inUse().pasids).toBe(1);
      await sva.iommuSvaDeviceShutdown(dev);
      await scheduler.idle();
      expect([sva.inUse().pasids, process.mmCount]).toEqual([0, 0]);
    });
  });

  it("takes a handler that throws for a device that cannot be stopped, and goes on with the others (C4)", async () => {
    const { run, sva, svaDevice, kernel, ops, scheduler, mm } = machine();
    await run(async () => {
      const refuse = async () => {
        throw new IommuError("EIO", "the card does not answer");
      };
      const [first, second] = [await svaDevice("0000:01:00.0"), await svaDevice("0000:02:00.0", { mmExit: refuse })];
      const process = mm();
      const pasid = await sva.bindDeviceLocked(first, process, IOPF);
      await sva.bindDeviceLocked(second, process, IOPF);
      await process.mmput();
      expect(ops.calls.filter((call) => call.startsWith("mmDetach"))).toHaveLength(2);
      expect(kernel.log).toEqual([
        "0000:02:00.0: the mm_exit handler failed: EIO: the card does not answer",
        "0000:02:00.0: possible leak of PASID 1",
      ]);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 1, partials: 0 });
      await expect(sva.unbindDeviceLocked(second, pasid)).rejects.toThrow("ESRCH");
      await sva.iommuSvaDeviceShutdown(second);
      await scheduler.idle();
      expect(sva.inUse().pasids).toBe(0);
    });
  });

  it("goes on when hardware does not, and keeps the PASID that it may still use (C4) (L-24)", async () => {
    const { run, sva, svaDevice, kernel, ops, scheduler, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      await sva.bindDeviceLocked(dev, process, IOPF);
      for (const op of ["mmInvalidate", "mmExit", "mmDetach", "svaDeviceShutdown"] as const) ops.fail(op, "ETIMEDOUT");
      await process.invalidate(0n, 0x1000n);
      await process.mmput();
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 1, partials: 0 });
      await sva.iommuSvaDeviceShutdown(dev);
      await scheduler.idle();
      expect(sva.inUse().pasids).toBe(0);
      expect(kernel.log).toEqual([
        "0000:01:00.0: mm_invalidate failed: ETIMEDOUT: mmInvalidate was told to fail",
        "0000:01:00.0: mm_exit failed: ETIMEDOUT: mmExit was told to fail",
        "0000:01:00.0: mm_detach failed: ETIMEDOUT: mmDetach was told to fail",
        "0000:01:00.0: possible leak of PASID 1",
        "0000:01:00.0: sva_device_shutdown failed: ETIMEDOUT: svaDeviceShutdown was told to fail",
      ]);
    });
  });

  it("removes bonds of devices without a handler (A1) (C4)", async () => {
    const { run, sva, svaDevice, ops, mm } = machine();
    await run(async () => {
      const process = mm();
      await sva.bindDeviceLocked(await svaDevice(), process, IOPF);
      await process.mmput();
      expect(ops.calls).toContain("mmExit 0000:01:00.0 1");
      expect(sva.inUse().bonds).toBe(0);
    });
  });

  it("waits for an unbind that is removing a bond, and does not call mm_exit for it (B7)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      let exits = 0;
      const dev = await svaDevice("0000:01:00.0", { mmExit: async () => exits++ && 0 });
      const process = mm();
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      ops.delays.mmDetach = 1000;
      scheduler.spawn("unbind", () => sva.unbindDeviceLocked(dev, pasid));
      await scheduler.sleep(10);
      await process.mmput();
      expect(scheduler.now).toBe(1000);
      expect(exits).toBe(0);
      expect(ops.calls.filter((call) => call.startsWith("mmDetach"))).toHaveLength(1);
    });
  });
});

describe("bond during mm_exit", () => {
  async function slowExit(bugs: readonly string[] = []) {
    const m = machine(bugs);
    const dev = await m.run(() =>
      m.svaDevice("0000:01:00.0", {
        mmExit: async () => {
          await m.scheduler.sleep(1000);
          return 0;
        },
      }),
    );
    const process = m.mm();
    const pasid = await m.run(() => m.sva.bindDeviceLocked(dev, process, IOPF));
    return { ...m, dev, process, pasid };
  }

  it("is seen as active; unbind waits until the bond is gone and answers 0 (A10) (B7)", async () => {
    const { run, sva, scheduler, dev, process, pasid } = await slowExit();
    await run(async () => {
      scheduler.spawn("exit", () => process.mmput());
      await scheduler.sleep(10);
      const [bond] = dev.svaParam?.mmList ?? [];
      expect(bond.mmExitActive).toBe(true);
      await sva.unbindDeviceLocked(dev, pasid);
      expect(scheduler.now).toBe(1000);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
  });

  it("is removed once, whoever else waits: unbind, removal of the device, a second unbind (B7) (S-8)", async () => {
    const { run, sva, scheduler, kernel, ops, dev, process, pasid } = await slowExit();
    await run(async () => {
      const done: string[] = [];
      scheduler.spawn("exit", () => process.mmput());
      await scheduler.sleep(10);
      scheduler.spawn("unbind", () => sva.unbindDeviceLocked(dev, pasid).then(() => void done.push("unbind")));
      scheduler.spawn("remove", () => sva.unbindDeviceAll(dev).then(() => void done.push("remove")));
      scheduler.spawn("again", () => sva.unbindDeviceLocked(dev, pasid).then(() => void done.push("again")));
      await scheduler.sleep(5000);
      expect(done).toEqual(["unbind", "remove", "again"]);
      expect(ops.calls.filter((call) => call.startsWith("mmDetach"))).toHaveLength(1);
      expect(kernel.log).toEqual([]);
    });
  });

  it("is touched after it was freed by the second waiter, with the seed's loop (S-8)", async () => {
    const { run, sva, scheduler, kernel, dev, process, pasid } = await slowExit(["S-8"]);
    await run(async () => {
      scheduler.spawn("exit", () => process.mmput());
      await scheduler.sleep(10);
      scheduler.spawn("unbind", () => sva.unbindDeviceLocked(dev, pasid));
      scheduler.spawn("remove", () => sva.unbindDeviceAll(dev));
      await scheduler.sleep(5000);
      expect(kernel.log).toEqual(["BUG: KASAN: use-after-free of the bond of 0000:01:00.0 with PASID 1"]);
      expect(sva.inUse().bonds).toBe(0);
    });
  });

  it("answers faults of the process INVALID while it exits (E7) (B8)", async () => {
    const { run, sva, scheduler, ops, dev, process, pasid } = await slowExit();
    await run(async () => {
      scheduler.spawn("exit", () => process.mmput());
      await scheduler.sleep(10);
      sva.report(dev, { pasid, grpid: 1, address: 0x10000n, perm: 1, last: true, responseNeedsPasid: true });
      await scheduler.idle();
      expect(ops.responses.map(({ code }) => code)).toEqual(["invalid"]);
    });
  });
});

describe("locks of the SVA core", () => {
  it("let a handler take a lock that unbind's caller does not hold while another process unbinds (S-2) (S-3) (I-5)", async () => {
    const { run, sva, svaDevice, scheduler, trace, mm } = machine();
    await run(async () => {
      const lock = new Mutex(scheduler, trace, "iommu->mm_list_lock");
      const dev = await svaDevice("0000:01:00.0", {
        mmExit: async () => {
          await scheduler.sleep(100);
          await lock.with(() => {});
          return 0;
        },
      });
      const [exiting, other] = [mm(), mm()];
      await sva.iommuSvaBindDevice(dev, exiting, IOPF);
      const pasid = await sva.iommuSvaBindDevice(dev, other, IOPF);
      scheduler.spawn("exit", () => exiting.mmput());
      await scheduler.sleep(10);
      // A lock of the core held across the handler would stop all of these.
      await sva.iommuSvaUnbindDevice(dev, pasid);
      await sva.iommuSvaBindDevice(dev, other, IOPF);
      await lock.with(() => sva.unbindDeviceLocked(dev, 2));
      expect(scheduler.now).toBeLessThan(100);
      await sva.unbindDeviceAll(dev);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
  });

  it("deadlock as ABBA when detach holds the lock that the handler takes, as the seed's VFIO does (S-2)", async () => {
    const { run, sva, svaDevice, scheduler, trace, mm } = machine();
    const outcome = run(async () => {
      const lock = new Mutex(scheduler, trace, "iommu->lock");
      const dev = await svaDevice("0000:01:00.0", {
        mmExit: async () => {
          await scheduler.sleep(100);
          await lock.with(() => {});
          return 0;
        },
      });
      const process = mm();
      await sva.bindDeviceLocked(dev, process, IOPF);
      scheduler.spawn("exit", () => process.mmput());
      await scheduler.sleep(10);
      await lock.with(() => sva.unbindDeviceAll(dev));
    });
    await expect(outcome).rejects.toThrow(DeadlockError);
    await expect(outcome).rejects.toThrow("exit waits for lock iommu->lock (held by main)");
  });

  it("use mmputAsync under locks, so that the last reference never runs mm_exit there (B9)", async () => {
    const { run, sva, svaDevice, scheduler, trace, mm } = machine();
    await run(async () => {
      const lock = new Mutex(scheduler, trace, "A");
      const dev = await svaDevice("0000:01:00.0", {
        mmExit: async () => {
          await lock.with(() => {});
          return 0;
        },
      });
      const process = mm();
      const binding = lock.with(async () => {
        scheduler.spawn("exit", () => process.mmput());
        const ops = dev.iommu?.ops;
        const attach = ops?.mmAttach?.bind(ops);
        if (ops && attach) ops.mmAttach = (...args) => scheduler.sleep(50).then(() => attach(...args));
        await sva.bindDeviceLocked(dev, process, IOPF);
      });
      await binding;
      await scheduler.sleep(100);
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
  });

  it.each([
    { bugs: [], outcome: "ends" },
    { bugs: ["L-5"], outcome: "DeadlockError" },
  ])("are free while a fault queue is flushed: with $bugs, unbind $outcome (L-5) (E9)", async ({ bugs, outcome }) => {
    const { run, sva, svaDevice, mm } = machine(bugs);
    const unbind = run(async () => {
      const dev = await svaDevice();
      const process = mm();
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      process.faultDelay = 100;
      sva.report(dev, { pasid, grpid: 1, address: 0x10000n, perm: 1, last: true, responseNeedsPasid: true });
      await sva.unbindDeviceLocked(dev, pasid);
      return "ends";
    });
    expect(await unbind.catch(({ name }) => name)).toBe(outcome);
  });
});
