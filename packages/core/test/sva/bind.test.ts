import { describe, expect, it } from "vitest";
import { Device, type Errno, IommuError, type Mm } from "../../src/index.js";
import { FakeIommu, FakePciFunction } from "../../src/testing/index.js";
import { IOPF, type Machine, machine } from "./machine.js";

describe("iommu_sva_bind_device", () => {
  it("gives the PASID, takes the group's mutex, and refuses a group of several devices with EINVAL (A7)", async () => {
    const { run, sva, svaDevice, newDevice, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      let held = false;
      const { ops } = dev.iommu as FakeIommu;
      const attach = ops.mmAttach.bind(ops);
      ops.mmAttach = (...args) => {
        held = dev.group?.mutex.held ?? false;
        return attach(...args);
      };
      expect(await sva.iommuSvaBindDevice(dev, mm(), IOPF)).toBe(1);
      expect(held).toBe(true);
      dev.group?.devices.push(newDevice("0000:01:00.1"));
      await expect(sva.iommuSvaBindDevice(dev, mm(), IOPF)).rejects.toThrow("EINVAL");
    });
  });

  it("answers ENODEV without a group (A7)", async () => {
    const { run, sva, mm } = machine();
    const dev = new Device("0000:04:00.0", 0, new FakePciFunction("0000:04:00.0"));
    await run(() => expect(sva.iommuSvaBindDevice(dev, mm(), IOPF)).rejects.toThrow("ENODEV"));
  });
});

describe("__iommu_sva_bind_device", () => {
  const refusals: {
    why: string;
    code: Errno;
    prepare: (m: Machine) => Promise<{ dev: Device; mm: Mm; flags: number }>;
  }[] = [
    {
      why: "the device has no domain",
      code: "EINVAL",
      prepare: async ({ svaDevice, mm }) => {
        const dev = await svaDevice();
        if (dev.group) dev.group.domain = undefined;
        return { dev, mm: mm(), flags: IOPF };
      },
    },
    {
      why: "SVA of the device is not initialised",
      code: "EINVAL",
      prepare: async ({ device, mm }) => ({ dev: await device(), mm: mm(), flags: IOPF }),
    },
    {
      why: "the flags are not among the features of the device",
      code: "EINVAL",
      prepare: async ({ svaDevice, mm }) => ({
        dev: await svaDevice("0000:01:00.0", { features: 0 }),
        mm: mm(),
        flags: IOPF,
      }),
    },
    {
      why: "the process is bound to the device",
      code: "EEXIST",
      prepare: async ({ svaDevice, sva, mm }) => {
        const [dev, process] = [await svaDevice(), mm()];
        await sva.bindDeviceLocked(dev, process, IOPF);
        return { dev, mm: process, flags: IOPF };
      },
    },
    {
      why: "the process is bound to another device with other flags",
      code: "EDOM",
      prepare: async ({ svaDevice, sva, mm }) => {
        const process = mm();
        await sva.bindDeviceLocked(await svaDevice(), process, IOPF);
        return { dev: await svaDevice("0000:02:00.0"), mm: process, flags: 0 };
      },
    },
    {
      why: "the PASID of the process is above the device's range",
      code: "ERANGE",
      prepare: async ({ svaDevice, sva, mm }) => {
        const first = await svaDevice();
        await sva.bindDeviceLocked(first, mm(), IOPF);
        const process = mm();
        await sva.bindDeviceLocked(first, process, IOPF);
        return { dev: await svaDevice("0000:02:00.0", { maxPasid: 1 }), mm: process, flags: IOPF };
      },
    },
    {
      why: "the driver cannot share address spaces",
      code: "ENODEV",
      prepare: async ({ svaDevice, ops, mm }) => {
        const dev = await svaDevice();
        Object.defineProperty(ops, "mmAttach", { value: undefined });
        return { dev, mm: mm(), flags: IOPF };
      },
    },
    {
      why: "the driver has no memory for its context",
      code: "ENOMEM",
      prepare: async ({ svaDevice, ops, mm }) => {
        ops.fail("mmAlloc", "ENOMEM");
        return { dev: await svaDevice(), mm: mm(), flags: IOPF };
      },
    },
    {
      why: "there is no memory for the bond",
      code: "ENOMEM",
      prepare: async ({ svaDevice, kernel, mm }) => {
        kernel.allocationFails = (what) => what === "iommu_bond";
        return { dev: await svaDevice(), mm: mm(), flags: IOPF };
      },
    },
    {
      why: "every PASID of the device's range is taken",
      code: "ENOSPC",
      prepare: async ({ svaDevice, sva, mm }) => {
        const dev = await svaDevice("0000:01:00.0", { maxPasid: 2 });
        await sva.bindDeviceLocked(dev, mm(), IOPF);
        await sva.bindDeviceLocked(dev, mm(), IOPF);
        return { dev, mm: mm(), flags: IOPF };
      },
    },
    {
      why: "the driver refuses to attach",
      code: "EBUSY",
      prepare: async ({ svaDevice, ops, mm }) => {
        ops.fail("mmAttach", "EBUSY");
        return { dev: await svaDevice(), mm: mm(), flags: IOPF };
      },
    },
    {
      why: "the process has exited",
      code: "ESRCH",
      prepare: async ({ svaDevice, mm }) => {
        const process = mm();
        await process.mmput();
        return { dev: await svaDevice(), mm: process, flags: IOPF };
      },
    },
  ];

  it.each(refusals)("answers $code when $why, and leaves nothing behind (A8) (A9) (S-1)", async ({ code, prepare }) => {
    const m = machine();
    await m.run(async () => {
      const { dev, mm, flags } = await prepare(m);
      const before = { ...m.sva.inUse(), refs: m.sva.ioMmOf(mm)?.refs, users: mm.mmUsers, count: mm.mmCount };
      await expect(m.sva.bindDeviceLocked(dev, mm, flags)).rejects.toMatchObject({ code });
      await m.scheduler.idle();
      const after = { ...m.sva.inUse(), refs: m.sva.ioMmOf(mm)?.refs, users: mm.mmUsers, count: mm.mmCount };
      expect(after).toEqual(before);
      expect(m.ops.contexts.size).toBe(m.sva.ioMmOf(mm) || before.pasids > 0 ? before.pasids : 0);
    });
  });

  /** io_mm_alloc takes the PASID, io_mm_attach compares it, and only then there is a bond to allocate (patches 03 and 05). */
  it.each([
    [1, "ENOSPC", "every PASID is taken"],
    [2, "ERANGE", "the PASID does not suit the device"],
    [4, "ENOMEM", "there is no memory for the bond"],
  ])("with room for PASIDs up to %i answers %s: %s (A9)", async (maxPasid, errno) => {
    const { run, sva, svaDevice, kernel, mm } = machine();
    await run(async () => {
      const first = await svaDevice();
      for (let i = 0; i < (maxPasid === 1 ? 1 : 2); i++) await sva.bindDeviceLocked(first, mm(), IOPF);
      const process = mm();
      if (maxPasid === 2) await sva.bindDeviceLocked(first, process, IOPF);
      const before = sva.inUse();
      kernel.allocationFails = (what) => what === "iommu_bond";
      const second = await svaDevice("0000:02:00.0", { maxPasid });
      await expect(sva.bindDeviceLocked(second, process, IOPF)).rejects.toMatchObject({ code: errno });
      expect(sva.inUse()).toEqual(before);
    });
  });

  it("takes a PASID that is the device's lowest and highest (A9)", async () => {
    const { run, sva, svaDevice, mm } = machine();
    await run(async () => {
      const [first, second] = [await svaDevice(), await svaDevice("0000:02:00.0", { maxPasid: 1 })];
      const process = mm();
      expect(await sva.bindDeviceLocked(first, process, IOPF)).toBe(1);
      expect(await sva.bindDeviceLocked(second, process, IOPF)).toBe(1);
    });
  });

  it("answers EINVAL when the device begins to shut down before there is a bond (A8)", async () => {
    const { run, sva, svaDevice, scheduler, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      scheduler.point = (name) => (name === "lock iommu_sva_lock" ? scheduler.yield() : undefined);
      scheduler.spawn("shutdown", () => sva.iommuSvaDeviceShutdown(dev));
      await expect(sva.bindDeviceLocked(dev, mm(), IOPF)).rejects.toMatchObject({ code: "EINVAL" });
      await scheduler.idle();
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
  });

  it("warns in the log when SVA is not initialised (A8)", async () => {
    const { run, sva, device, kernel, mm } = machine();
    await run(async () => {
      const dev = await device();
      await expect(sva.bindDeviceLocked(dev, mm(), IOPF)).rejects.toThrow("EINVAL");
      expect(kernel.log).toEqual(["WARNING: 0000:01:00.0 is bound to a process before SVA is initialised"]);
    });
  });

  it("binds without IOPF, for callers that pin what they share (A12)", async () => {
    const { run, sva, svaDevice, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      await sva.bindDeviceLocked(dev, process, 0);
      expect(sva.ioMmOf(process)?.flags).toBe(0);
    });
  });

  it("does everything that mainline asks of a feature set: PASID, IOPF, a page table that fits (A16)", async () => {
    const { run, sva, svaDevice, ops, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      ops.fail("mmAlloc", "EOPNOTSUPP");
      await expect(sva.bindDeviceLocked(dev, mm(), IOPF)).rejects.toThrow("EOPNOTSUPP");
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
  });

  it("calls the driver with the 2018 series' operations, in its order (A15) (B4)", async () => {
    const { run, sva, svaDevice, ops, scheduler, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm("pid 7");
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      await process.invalidate(0x1000n, 0x3000n);
      sva.report(dev, { pasid, grpid: 3, address: 0x10000n, perm: 1, last: true, responseNeedsPasid: false });
      await sva.flushDevice(dev, pasid);
      await sva.unbindDeviceLocked(dev, pasid);
      await scheduler.idle();
      await sva.iommuSvaDeviceShutdown(dev);
      expect(ops.calls).toEqual([
        "mmAlloc pid 7",
        "mmAttach 0000:01:00.0 1 first",
        "mmInvalidate 0000:01:00.0 1 0x1000 0x2000",
        "pageResponse 0000:01:00.0 3 success",
        "mmDetach 0000:01:00.0 1 last",
        "mmFree",
        "svaDeviceShutdown 0000:01:00.0",
      ]);
    });
  });
});

describe("__iommu_sva_unbind_device", () => {
  it("answers ENODEV without a group, as iommu_sva_bind_device does (A10, patch 02/40)", async () => {
    const { run, sva, newDevice } = machine();
    await run(async () => {
      await expect(sva.iommuSvaUnbindDevice(newDevice("0000:09:00.0"), 1)).rejects.toMatchObject({ code: "ENODEV" });
    });
  });

  it("answers EINVAL before SVA is initialised, ESRCH for a PASID that is not bound on the device (A10)", async () => {
    const { run, sva, device, svaDevice, mm } = machine();
    await run(async () => {
      await expect(sva.unbindDeviceLocked(await device(), 1)).rejects.toThrow("EINVAL");
      const dev = await svaDevice("0000:02:00.0");
      const other = await svaDevice("0000:03:00.0");
      const pasid = await sva.bindDeviceLocked(other, mm(), IOPF);
      for (const unknown of [pasid, pasid + 1, -1]) {
        await expect(sva.unbindDeviceLocked(dev, unknown)).rejects.toThrow("ESRCH");
      }
      await sva.iommuSvaUnbindDevice(other, pasid);
      await expect(sva.iommuSvaUnbindDevice(other, pasid)).rejects.toThrow("ESRCH");
    });
  });

  it("never meets VFIO_PASID_INVALID, which is no PASID of anybody (S-1) (D4)", async () => {
    const { run, sva, svaDevice, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      await sva.bindDeviceLocked(dev, mm(), IOPF);
      await expect(sva.unbindDeviceLocked(dev, -1)).rejects.toThrow("ESRCH");
      await expect(sva.unbindDeviceLocked(dev, 0xffff_ffff)).rejects.toThrow("ESRCH");
      expect(sva.inUse().bonds).toBe(1);
    });
  });

  it("removes the new owner's bond when a caller still uses the PASID of a process that exited (A11) (S-9)", async () => {
    const { run, sva, svaDevice, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const first = mm();
      const pasid = await sva.bindDeviceLocked(dev, first, IOPF);
      await first.mmput();
      const second = mm();
      expect(await sva.bindDeviceLocked(dev, second, IOPF)).toBe(pasid);
      // The core cannot tell: callers must match by mm, as VFIO does.
      await sva.unbindDeviceLocked(dev, pasid);
      expect(sva.ioMmOf(second)).toBeUndefined();
    });
  });
});

describe("io_mm", () => {
  it("is one per process, with one PASID on all devices and IOMMUs (B1) (D2)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      const second = new FakeIommu(scheduler, "other");
      const devices = [
        await svaDevice("0000:01:00.0"),
        await svaDevice("0000:02:00.0"),
        await svaDevice("0001:01:00.0", { behind: second }),
      ];
      const process = mm();
      const pasids = [];
      for (const dev of devices) pasids.push(await sva.bindDeviceLocked(dev, process, IOPF));
      expect(pasids).toEqual([1, 1, 1]);
      const ioMm = sva.ioMmOf(process);
      expect(ioMm?.refs).toBe(3);
      expect(ioMm?.mm).toBe(process);
      expect([...(ioMm?.contexts.keys() ?? [])]).toEqual([ops, second.ops]);
      expect(process.notifiers.size).toBe(1);
      expect(sva.inUse()).toEqual({ bonds: 3, pasids: 1, partials: 0 });
    });
  });

  it("has each bond in three lists: its own, the domain's and the device's (B2)", async () => {
    const { run, sva, svaDevice, mm } = machine();
    await run(async () => {
      const [a, b] = [await svaDevice("0000:01:00.0"), await svaDevice("0000:02:00.0")];
      const [x, y] = [mm(), mm()];
      await sva.bindDeviceLocked(a, x, IOPF, "drvdata");
      await sva.bindDeviceLocked(a, y, IOPF);
      await sva.bindDeviceLocked(b, y, IOPF);
      const devicesOf = (process: Mm) => [...(sva.ioMmOf(process)?.devices ?? [])].map(({ device }) => device);
      expect(devicesOf(x)).toEqual([a]);
      expect(devicesOf(y)).toEqual([a, b]);
      expect([...(a.svaParam?.mmList ?? [])].map(({ ioMm }) => ioMm.mm)).toEqual([x, y]);
      const domain = a.group?.domain;
      const listed = domain ? [...sva.domainBonds(domain)] : [];
      expect(listed.map(({ ioMm, device }) => [ioMm.pasid, device.name])).toEqual([
        [1, "0000:01:00.0"],
        [2, "0000:01:00.0"],
      ]);
      expect(listed[0].drvdata).toBe("drvdata");
      expect(listed.every((bond) => bond.domain === domain && !bond.mmExitActive)).toBe(true);
      await sva.unbindDeviceLocked(a, 2);
      expect(devicesOf(y)).toEqual([b]);
      expect(domain && sva.domainBonds(domain).size).toBe(1);
    });
  });

  it("writes the PASID table entry with the domain's first bond and clears it with the last (B3)", async () => {
    const { run, sva, svaDevice, groups, ops, mm } = machine();
    await run(async () => {
      const [a, b, c] = [
        await svaDevice("0000:01:00.0"),
        await svaDevice("0000:02:00.0"),
        await svaDevice("0000:03:00.0"),
      ];
      const shared = ops.domainAlloc("unmanaged", a);
      for (const dev of [a, b]) if (dev.group) await groups.attachGroup(shared, dev.group);
      ops.calls.length = 0;
      const process = mm();
      for (const dev of [a, b, c]) await sva.bindDeviceLocked(dev, process, IOPF);
      for (const dev of [a, b, c]) await sva.unbindDeviceLocked(dev, 1);
      expect(ops.calls.filter((call) => /^mm(At|De)tach/.test(call))).toEqual([
        "mmAttach 0000:01:00.0 1 first",
        "mmAttach 0000:02:00.0 1 further",
        "mmAttach 0000:03:00.0 1 first",
        "mmDetach 0000:01:00.0 1 further",
        "mmDetach 0000:02:00.0 1 last",
        "mmDetach 0000:03:00.0 1 last",
      ]);
    });
  });

  it("holds the mm_struct, not its users, and gives the context back before it (B4) (B5)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      expect([process.mmUsers, process.mmCount]).toEqual([1, 2]);
      let heldAtFree = 0;
      const free = ops.mmFree.bind(ops);
      ops.mmFree = (context) => {
        heldAtFree = process.mmCount;
        free(context);
      };
      await sva.unbindDeviceLocked(dev, pasid);
      await scheduler.idle();
      expect(heldAtFree).toBe(2);
      expect([process.mmUsers, process.mmCount, process.notifiers.size]).toEqual([1, 1, 0]);
      expect(ops.contexts.size).toBe(0);
    });
  });

  it("is freed only when no notifier callback that may use it runs any more (B5)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      ops.delays.mmInvalidate = 1000;
      scheduler.spawn("munmap", () => process.invalidate(0n, 0x1000n));
      await scheduler.sleep(10);
      await sva.unbindDeviceLocked(dev, pasid);
      await scheduler.idle();
      expect(ops.contexts.size).toBe(1);
      await scheduler.sleep(2000);
      expect(ops.contexts.size).toBe(0);
      expect(ops.calls.slice(-2)).toEqual(["mmInvalidate 0000:01:00.0 1 0x0 0x1000", "mmFree"]);
    });
  });

  it("gives a driver's context back with that driver's last bond, while others go on (B5)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      const second = new FakeIommu(scheduler, "other");
      const [a, b] = [await svaDevice("0000:01:00.0"), await svaDevice("0001:01:00.0", { behind: second })];
      const process = mm();
      await sva.bindDeviceLocked(a, process, IOPF);
      await sva.bindDeviceLocked(b, process, IOPF);
      await sva.unbindDeviceLocked(a, 1);
      await scheduler.idle();
      expect([ops.contexts.size, second.ops.contexts.size]).toEqual([0, 1]);
      await sva.bindDeviceLocked(a, process, IOPF);
      expect(ops.contexts.size).toBe(1);
    });
  });

  it("is not made twice by two binds of one process at the same time (B1) (B4)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      const [a, b] = [await svaDevice("0000:01:00.0"), await svaDevice("0000:02:00.0")];
      ops.delays.mmAlloc = 500;
      const process = mm();
      const pasids: number[] = [];
      for (const dev of [a, b]) {
        scheduler.spawn(dev.name, async () => void pasids.push(await sva.bindDeviceLocked(dev, process, IOPF)));
      }
      await scheduler.sleep(5000);
      expect(pasids).toEqual([1, 1]);
      expect(ops.contexts.size).toBe(1);
      expect(sva.inUse()).toEqual({ bonds: 2, pasids: 1, partials: 0 });
    });
  });

  it("goes once when its device is shut down while its bind fails (A6)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      scheduler.point = (name) => (name === "lock iommu_sva_lock" ? scheduler.yield() : undefined);
      ops.mmAttach = async () => {
        scheduler.spawn("shutdown", () => sva.iommuSvaDeviceShutdown(dev));
        throw new IommuError("EIO", "no");
      };
      await expect(sva.iommuSvaBindDevice(dev, mm(), IOPF)).rejects.toThrow("EIO");
      await scheduler.idle();
      expect([dev.svaParam, sva.inUse()]).toEqual([undefined, { bonds: 0, pasids: 0, partials: 0 }]);
    });
  });

  it("survives the failure of the bind that made it, when another one waits for it (S-1)", async () => {
    const { run, sva, svaDevice, scheduler, ops, mm } = machine();
    await run(async () => {
      const [a, b] = [await svaDevice("0000:01:00.0"), await svaDevice("0000:02:00.0")];
      ops.delays.mmAlloc = 500;
      ops.fail("mmAlloc", "ENOMEM");
      const process = mm();
      const answers: unknown[] = [];
      for (const dev of [a, b]) {
        scheduler.spawn(dev.name, async () => {
          answers.push(await sva.bindDeviceLocked(dev, process, IOPF).catch(({ code }) => code));
        });
      }
      await scheduler.sleep(5000);
      expect(answers).toEqual(["ENOMEM", 1]);
      expect(sva.inUse()).toEqual({ bonds: 1, pasids: 1, partials: 0 });
    });
  });

  it("holds no spinlock while hardware is waited for (B6) (I-5)", async () => {
    const { run, sva, svaDevice, scheduler, trace, ops, mm } = machine();
    await run(async () => {
      const dev = await svaDevice();
      const held = new Set<string>();
      const kinds = new Map<string, string>();
      trace.on("lock:acquired", ({ lock, kind }) => {
        held.add(lock);
        kinds.set(lock, kind);
      });
      trace.on("lock:released", ({ lock }) => held.delete(lock));
      const seen: string[][] = [];
      for (const op of ["mmAlloc", "mmAttach", "mmDetach", "mmInvalidate", "mmExit"] as const) {
        const original = ops[op].bind(ops) as (...args: unknown[]) => Promise<never>;
        ops[op] = (...args: unknown[]): Promise<never> => {
          seen.push([op, ...[...held].filter((lock) => kinds.get(lock) === "spin")]);
          return original(...args);
        };
      }
      const process = mm();
      const pasid = await sva.iommuSvaBindDevice(dev, process, IOPF);
      await process.invalidate(0n, 0x1000n);
      await sva.iommuSvaUnbindDevice(dev, pasid);
      await sva.iommuSvaBindDevice(dev, process, IOPF);
      await process.mmput();
      await scheduler.idle();
      expect(kinds.get("iommu_sva_lock")).toBe("spin");
      expect(seen.map(([op]) => op)).toEqual([
        "mmAlloc",
        "mmAttach",
        "mmInvalidate",
        "mmDetach",
        "mmAlloc",
        "mmAttach",
        "mmExit",
        "mmDetach",
      ]);
      expect(seen.every((entry) => entry.length === 1)).toBe(true);
    });
  });
});
