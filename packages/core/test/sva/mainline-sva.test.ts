import { describe, expect, it } from "vitest";
import { createBoard, MainlineSva, Sva, SvaCore } from "../../src/index.js";
import { FakeIommu } from "../../src/testing/index.js";
import { IOPF, machine } from "./machine.js";

const mainline = () => machine([], MainlineSva);

describe("iommu_sva_bind_device in mainline", () => {
  it("gives one handle for a device and a process, which counts its users; the last unbind ends it (A13)", async () => {
    const { run, sva, svaDevice, ops, mm } = mainline();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      const first = await sva.iommuSvaBindHandle(dev, process);
      const second = await sva.iommuSvaBindHandle(dev, process);
      expect(second).toBe(first);
      expect([first.pasid, first.users]).toEqual([1, 2]);
      await sva.iommuSvaUnbindHandle(first);
      expect([first.users, sva.inUse().bonds]).toEqual([1, 1]);
      expect(ops.calls.filter((call) => /mm(At|De)tach/.test(call))).toEqual(["mmAttach 0000:01:00.0 1 first"]);
      await sva.iommuSvaUnbindHandle(first);
      expect(sva.inUse().bonds).toBe(0);
      await expect(sva.iommuSvaUnbindHandle(first)).rejects.toThrow("ESRCH");
    });
  });

  it("makes a second binder wait for the first attach, and fail or succeed on its own (A13) (B11)", async () => {
    const { run, sva, svaDevice, ops, scheduler, mm } = mainline();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      ops.delays.mmAttach = 500;
      ops.fail("mmAttach", "ENOSPC");
      const answers: unknown[] = [];
      for (const name of ["one", "two"]) {
        scheduler.spawn(name, async () => {
          answers.push(await sva.bindDeviceLocked(dev, process, IOPF).catch(({ code }) => code));
        });
      }
      await scheduler.sleep(5000);
      expect(answers).toEqual(["ENOSPC", 1]);
      expect(sva.inUse().bonds).toBe(1);
    });
  });

  it("never counts a user of a handle that its last one is giving back (A13)", async () => {
    const { run, sva, svaDevice, ops, scheduler, mm } = mainline();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      // The binder has looked, and waits for iommu_sva_lock, when the other thread unbinds.
      const point = scheduler.point.bind(scheduler);
      scheduler.point = (name) => (name === "lock iommu_sva_lock" ? scheduler.sleep(100) : point(name));
      const binder = scheduler.spawn("bind", async () => void (await sva.bindDeviceLocked(dev, process, IOPF)));
      await scheduler.sleep(10);
      scheduler.point = point;
      ops.delays.mmDetach = 1000;
      await sva.unbindDeviceLocked(dev, pasid);
      await scheduler.sleep(1000);
      expect(binder.done).toBe(true);
      expect(sva.inUse().bonds).toBe(1);
      expect(ops.calls.filter((call) => call.startsWith("mmAttach"))).toHaveLength(2);
    });
  });

  it("serves callers that bind by PASID, as VFIO does (A13)", async () => {
    const { run, sva, svaDevice, mm } = mainline();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      expect(await sva.bindDeviceLocked(dev, process, IOPF)).toBe(1);
      expect(await sva.bindDeviceLocked(dev, process, IOPF)).toBe(1);
      await sva.unbindDeviceLocked(dev, 1);
      await sva.unbindDeviceLocked(dev, 1);
      await expect(sva.unbindDeviceLocked(dev, 1)).rejects.toThrow("ESRCH");
    });
  });

  it("answers EOVERFLOW when the process has a PASID beyond the device's, ENOSPC when none is left (D5)", async () => {
    const { run, sva, svaDevice, mm } = mainline();
    await run(async () => {
      const wide = await svaDevice();
      const narrow = await svaDevice("0000:02:00.0", { maxPasid: 1 });
      await sva.bindDeviceLocked(wide, mm(), IOPF);
      const process = mm();
      await sva.bindDeviceLocked(wide, process, IOPF);
      await expect(sva.bindDeviceLocked(narrow, process, IOPF)).rejects.toThrow("EOVERFLOW");
      await expect(sva.bindDeviceLocked(narrow, mm(), IOPF)).rejects.toThrow("ENOSPC");
      await sva.unbindDeviceLocked(wide, 2);
      await expect(sva.bindDeviceLocked(narrow, process, IOPF)).rejects.toThrow("EOVERFLOW");
    });
  });

  it("asks for the PASID, then for the handle, then for the reset: who is bound already gets one more user (A13) (I12)", async () => {
    const { run, sva, svaDevice, kernel, mm } = mainline();
    await run(async () => {
      const dev = await svaDevice();
      const narrow = await svaDevice("0000:02:00.0", { maxPasid: 1 });
      const first = mm();
      const second = mm();
      await sva.bindDeviceLocked(dev, first, IOPF);
      // iommu_sva_bind_device: iommu_alloc_mm_data, iommu_attach_handle_get, kzalloc, iommu_attach_device_pasid.
      dev.group?.resetting.add(dev);
      narrow.group?.resetting.add(narrow);
      const handle = await sva.iommuSvaBindHandle(dev, first);
      expect([handle.pasid, handle.users]).toEqual([1, 2]);
      await expect(sva.bindDeviceLocked(dev, second, IOPF)).rejects.toThrow("EBUSY");
      await expect(sva.bindDeviceLocked(narrow, second, IOPF)).rejects.toThrow("EOVERFLOW");
      kernel.allocationFails = (what) => what === "iommu_bond";
      await expect(sva.bindDeviceLocked(dev, second, IOPF)).rejects.toThrow("ENOMEM");
      expect([handle.users, sva.inUse().bonds]).toEqual([2, 1]);
      // The process has kept the PASID that it got for nothing.
      kernel.allocationFails = () => false;
      dev.group?.resetting.clear();
      expect(await sva.bindDeviceLocked(dev, second, IOPF)).toBe(2);
    });
  });

  it("never gives PASID 0, whatever the device takes (D5)", async () => {
    const { run, sva, svaDevice, scheduler, mm } = mainline();
    await run(async () => {
      const vtd = new FakeIommu(scheduler, "vtd");
      vtd.ops.minPasid = 0;
      expect(await sva.bindDeviceLocked(await svaDevice("0000:01:00.0", { behind: vtd }), mm(), IOPF)).toBe(1);
    });
  });

  it("keeps the PASID of a process until its mm_struct goes, over any number of binds (B10) (L-3)", async () => {
    const { run, sva, svaDevice, scheduler, mm } = mainline();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      const handle = await sva.iommuSvaBindHandle(dev, process);
      await sva.iommuSvaUnbindHandle(handle);
      await scheduler.idle();
      expect(sva.inUse()).toEqual({ bonds: 0, pasids: 1, partials: 0 });
      expect(await sva.bindDeviceLocked(dev, mm(), IOPF)).toBe(2);
      expect(await sva.bindDeviceLocked(dev, process, IOPF)).toBe(1);
      // __mmput: the process is gone, the device still has the entry.
      await process.mmput();
      expect(sva.inUse()).toEqual({ bonds: 2, pasids: 2, partials: 0 });
      // __mmdrop, with the last bond.
      await sva.unbindDeviceLocked(dev, 1);
      await scheduler.idle();
      expect(sva.inUse()).toEqual({ bonds: 1, pasids: 1, partials: 0 });
    });
  });

  it("silences the entry when the process exits, calls no mm_exit, and leaves the bond to its owner (A13)", async () => {
    const { run, sva, svaDevice, ops, mm } = mainline();
    await run(async () => {
      let called = false;
      const dev = await svaDevice("0000:01:00.0", {
        mmExit: async () => {
          called = true;
          return 0;
        },
      });
      const process = mm();
      const pasid = await sva.bindDeviceLocked(dev, process, IOPF);
      ops.calls.length = 0;
      await process.mmput();
      expect(ops.calls).toEqual(["mmExit 0000:01:00.0 1"]);
      expect(called).toBe(false);
      sva.report(dev, { pasid, grpid: 1, address: 0x10000n, perm: 1, last: true, responseNeedsPasid: true });
      await sva.flushDevice(dev, pasid);
      expect(ops.responses.map(({ code }) => code)).toEqual(["invalid"]);
      await sva.unbindDeviceLocked(dev, pasid);
      expect(ops.calls.at(-1)).toBe("mmDetach 0000:01:00.0 1 last");
    });
  });

  it("removes bonds with the device, whatever their users (A5)", async () => {
    const { run, sva, svaDevice, mm } = mainline();
    await run(async () => {
      const dev = await svaDevice();
      const process = mm();
      await sva.bindDeviceLocked(dev, process, IOPF);
      await sva.bindDeviceLocked(dev, process, IOPF);
      await sva.iommuSvaDeviceShutdown(dev);
      expect(sva.inUse().bonds).toBe(0);
    });
  });
});

describe("BoardOptions.sva", () => {
  it("chooses the SVA core behind the one token (A13)", () => {
    expect(createBoard({}).resolve(Sva)).toBeInstanceOf(SvaCore);
    expect(createBoard({ sva: "seed" }).resolve(Sva)).not.toBeInstanceOf(MainlineSva);
    expect(createBoard({ sva: "mainline" }).resolve(Sva)).toBeInstanceOf(MainlineSva);
  });
});
