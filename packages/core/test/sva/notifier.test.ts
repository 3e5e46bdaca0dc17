import { describe, expect, it } from "vitest";
import { FakeIommu } from "../../src/testing/index.js";
import { IOPF, type Machine, machine } from "./machine.js";

async function bound(m: Machine, count = 2) {
  const process = m.mm();
  const devices = [];
  for (let i = 1; i <= count; i++) devices.push(await m.svaDevice(`0000:0${i}:00.0`));
  for (const dev of devices) await m.sva.bindDeviceLocked(dev, process, IOPF);
  const [notifier] = process.notifiers;
  m.ops.calls.length = 0;
  return { process, devices, notifier };
}

describe("mmu notifier callbacks", () => {
  it("are release, clear_flush_young, change_pte and invalidate_range (C1)", async () => {
    const m = machine();
    await m.run(async () => {
      const { notifier } = await bound(m);
      for (const name of ["release", "clearFlushYoung", "changePte", "invalidateRange"] as const) {
        expect(notifier[name]).toBeTypeOf("function");
      }
    });
  });

  it("invalidate_range reaches every bond with the start and the size of the range (C2)", async () => {
    const m = machine();
    await m.run(async () => {
      const { process, notifier } = await bound(m);
      await notifier.invalidateRange(process, 0x1000n, 0x5000n);
      expect(m.ops.calls).toEqual([
        "mmInvalidate 0000:01:00.0 1 0x1000 0x4000",
        "mmInvalidate 0000:02:00.0 1 0x1000 0x4000",
      ]);
    });
  });

  it("invalidate_range takes an exclusive end, so that [0, 2^64) is everything (C6)", async () => {
    const m = machine();
    await m.run(async () => {
      const { process, notifier } = await bound(m, 1);
      await notifier.invalidateRange(process, 0n, 2n ** 64n);
      expect(m.ops.calls).toEqual(["mmInvalidate 0000:01:00.0 1 0x0 0x10000000000000000"]);
    });
  });

  it("clear_flush_young invalidates the range and reports no access of its own (C3)", async () => {
    const m = machine();
    await m.run(async () => {
      const { process, notifier } = await bound(m, 1);
      expect(await notifier.clearFlushYoung(process, 0x1000n, 0x3000n)).toBe(false);
      expect(m.ops.calls).toEqual(["mmInvalidate 0000:01:00.0 1 0x1000 0x2000"]);
    });
  });

  it("change_pte invalidates exactly one page (C3)", async () => {
    const m = machine();
    await m.run(async () => {
      const { process, notifier } = await bound(m, 1);
      await notifier.changePte(process, 0x7000n);
      expect(m.ops.calls).toEqual(["mmInvalidate 0000:01:00.0 1 0x7000 0x1000"]);
    });
  });

  it("return only when every IOMMU has finished (C2) (I-1)", async () => {
    const m = machine();
    await m.run(async () => {
      const { process, notifier } = await bound(m, 1);
      const slow = new FakeIommu(m.scheduler, "slow");
      slow.ops.delays.mmInvalidate = 700;
      await m.sva.bindDeviceLocked(await m.svaDevice("0001:01:00.0", { behind: slow }), process, IOPF);
      await notifier.invalidateRange(process, 0n, 0x1000n);
      expect(m.scheduler.now).toBe(700);
      expect(slow.ops.calls).toContain("mmInvalidate 0001:01:00.0 1 0x0 0x1000");
    });
  });

  it("reach a bond while it is being attached and while it is being detached (I-1)", async () => {
    const m = machine();
    await m.run(async () => {
      const { process, devices, notifier } = await bound(m, 1);
      const late = await m.svaDevice("0000:05:00.0");
      m.ops.delays.mmAttach = 500;
      m.scheduler.spawn("bind", async () => void (await m.sva.bindDeviceLocked(late, process, IOPF)));
      await m.scheduler.sleep(100);
      await notifier.invalidateRange(process, 0n, 0x1000n);
      expect(m.ops.calls.filter((call) => call.startsWith("mmInvalidate"))).toHaveLength(2);
      await m.scheduler.sleep(1000);
      m.ops.delays.mmDetach = 500;
      m.scheduler.spawn("unbind", () => m.sva.unbindDeviceAll(devices[0]));
      await m.scheduler.sleep(100);
      m.ops.calls.length = 0;
      await notifier.invalidateRange(process, 0n, 0x1000n);
      expect(m.ops.calls).toHaveLength(2);
    });
  });

  it("reach nobody when the last bond is gone (B5)", async () => {
    const m = machine();
    await m.run(async () => {
      const { process, devices } = await bound(m);
      for (const dev of devices) await m.sva.unbindDeviceAll(dev);
      expect(process.notifiers.size).toBe(0);
    });
  });
});
