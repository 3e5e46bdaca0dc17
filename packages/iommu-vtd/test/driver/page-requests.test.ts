import { Access, formatBdf, IommuError, NO_PASID } from "@iommukit/core";
import { describe, expect, it, vi } from "vitest";
import { InvalidationQueue } from "../../src/driver/invalidation-queue.js";
import { PRS } from "../../src/spec/registers.js";
import { type Machine, machine, type PlayedDevice } from "./machine.js";

const PAGES = 64;

/** A process with room for faults, bound to a device. */
async function setUp(m: Machine) {
  const device = await m.plug();
  const mm = m.process();
  const address = await mm.mmap({ length: PAGES * 0x1000 });
  const pasid = await m.share(device, mm);
  return { device, mm, address, pasid };
}

async function settled(m: Machine): Promise<void> {
  await m.platform.scheduler.idle();
}

/** Requests that fill the queue while its event is masked; then the event comes. */
async function burst(m: Machine, body: () => void): Promise<void> {
  m.chip.write32(0xe0, 0x8000_0000);
  body();
  m.chip.write32(0xe0, 0);
  await settled(m);
}

const codes = ({ pci }: PlayedDevice) => pci.responses.map(({ prgi, code }) => [prgi, code]);

describe("page requests", () => {
  it("are answered once per group, for its last request, with the PASID (E5, H21, I-2)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, address, pasid } = await setUp(m);
      for (let page = 0; page < 4; page++)
        m.pageRequest(device, pasid, address + BigInt(page * 0x1000), 5, { last: page === 3, write: true });
      await settled(m);
      expect(device.pci.responses).toEqual([{ rid: device.dev.rid, pasid, prgi: 5, code: 0 }]);
      for (let page = 0; page < 4; page++) {
        expect(m.translate(device, address + BigInt(page * 0x1000), Access.WRITE, pasid)[0]).toBe(0);
      }
    });
  });

  it("go on when an answer to one could not be sent", async () => {
    const m = await machine({ preset: "everything" });
    await m.run(async () => {
      const { device, pasid } = await setUp(m);
      const submit = vi.spyOn(InvalidationQueue.prototype, "submit");
      submit.mockRejectedValueOnce(new IommuError("EINVAL", "refused"));
      m.pageRequest(device, pasid, 0x0200_0000_0000_0000n, 1);
      await settled(m);
      submit.mockRestore();
      expect(m.log.at(-1)).toBe("dmar0: page request failed: EINVAL: refused");
      m.pageRequest(device, pasid, 0x0200_0000_0000_0000n, 2);
      await settled(m);
      expect(codes(device)).toEqual([[2, 1]]);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("that may not be served are answered with invalid", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, pasid } = await setUp(m);
      m.pageRequest(device, pasid, 0x1000n, 1);
      await settled(m);
      expect(codes(device)).toEqual([[1, 1]]);
    });
  });

  it.each([
    ["IOMMU: dmar0: Page request in Privilege Mode", { privileged: true }, 0x7f00_0000_0000n],
    ["IOMMU: dmar0: Execution request not supported", { execute: true }, 0x7f00_0000_0000n],
    ["IOMMU: dmar0: Address is not canonical", {}, 0x0200_0000_0000_0000n],
  ])("are refused by the driver: %s (H22)", async (message, request, address) => {
    const m = await machine({ preset: "everything" });
    await m.run(async () => {
      const { device, pasid } = await setUp(m);
      m.pageRequest(device, pasid, address, 3, request);
      await settled(m);
      expect(m.log).toContain(message);
      expect(m.log.at(-1)).toMatch(/^dmar0: Invalid page request: [0-9a-f]{8,} [0-9a-f]{8,}$/);
      expect(codes(device)).toEqual([[3, 1]]);
    });
  });

  it("without PASID are answered with invalid, without PASID (E7)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device } = await setUp(m);
      m.pageRequest(device, NO_PASID, 0x1000n, 2);
      await settled(m);
      expect(device.pci.responses).toEqual([{ rid: device.dev.rid, pasid: NO_PASID, prgi: 2, code: 1 }]);
    });
  });

  it("that are Stop Markers are dropped without an answer (E11)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, pasid } = await setUp(m);
      m.pageRequest(device, pasid, 0n, 0, { read: false });
      await settled(m);
      expect(device.pci.responses).toEqual([]);
    });
  });

  it("wrap around the queue's end", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, address, pasid } = await setUp(m);
      for (let i = 0; i < 2100; i++) {
        m.pageRequest(device, pasid, address + BigInt((i % PAGES) * 0x1000), i & 0x1ff);
        if (i % 50 === 0) await settled(m);
      }
      await settled(m);
      expect(device.pci.responses.length).toBe(2100);
      expect(codes(device).every(([, code]) => code === 0)).toBe(true);
    });
  });

  it("that arrive while the thread works are not left behind", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, address, pasid } = await setUp(m);
      m.pageRequest(device, pasid, address, 1);
      await m.platform.scheduler.yield();
      m.pageRequest(device, pasid, address + 0x1000n, 2);
      await settled(m);
      m.pageRequest(device, pasid, address + 0x2000n, 3);
      await settled(m);
      expect(codes(device)).toEqual([
        [1, 0],
        [2, 0],
        [3, 0],
      ]);
      expect(m.chip.read32(PRS.offset)).toBe(0);
    });
  });
});

describe("overflow", () => {
  it("discards half groups, is acknowledged when the queue is empty, and requests go on (L-15, E12)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, address, pasid } = await setUp(m);
      await burst(m, () => {
        m.pageRequest(device, pasid, address, 9, { last: false });
        for (let i = 0; i < 2047; i++) m.pageRequest(device, pasid, address + BigInt((i % PAGES) * 0x1000), 1);
        m.pageRequest(device, pasid, address, 9);
      });
      expect(m.log).toContain("IOMMU: dmar0: PRQ overflow detected");
      expect(m.log).toContain("IOMMU: dmar0: PRQ overflow cleared");
      expect(m.chip.read32(PRS.offset)).toBe(0);
      expect(m.platform.sva.inUse().partials).toBe(0);
      // The unit itself answered the one that found no room.
      expect(device.pci.responses.filter(({ prgi }) => prgi === 9).length).toBe(1);
      device.pci.responses.length = 0;
      m.pageRequest(device, pasid, address, 2);
      await settled(m);
      expect(codes(device)).toEqual([[2, 0]]);
    });
  });

  it("is kept off by refusing page requests to devices for which the queue has no room (L-16)", async () => {
    const m = await machine();
    await m.run(async () => {
      const init = async (slot: number) => {
        const device = await m.plug(formatBdf({ segment: 0, rid: slot }));
        await m.platform.sva.iommuSvaDeviceInit(device.dev, 1, 0);
        return device;
      };
      const first = await init(8);
      for (let slot = 9; slot < 8 + 32; slot++) await init(slot);
      const late = await m.plug(formatBdf({ segment: 0, rid: 40 }));
      await expect(m.platform.sva.iommuSvaDeviceInit(late.dev, 1, 0)).rejects.toThrow("ENOSPC");
      expect(late.pci.readConfig(0x114, 2)).toBe(0);
      await m.platform.sva.iommuSvaDeviceShutdown(first.dev);
      await m.platform.sva.iommuSvaDeviceInit(late.dev, 1, 0);
      expect(late.pci.readConfig(0x11c, 4)).toBe(32);
    });
  });

  it("does not happen while devices keep to their credits (L-16)", async () => {
    const m = await machine();
    await m.run(async () => {
      let credits = 0;
      const devices: PlayedDevice[] = [];
      for (let slot = 1; slot < 31; slot++) {
        const device = await m.plug(`0000:00:${slot.toString(16).padStart(2, "0")}.0`);
        await m.platform.sva.iommuSvaDeviceInit(device.dev, 1, 0);
        credits += device.pci.readConfig(0x11c, 4);
        devices.push(device);
      }
      expect(credits).toBeLessThanOrEqual(1024);
      await burst(m, () => {
        for (const device of devices)
          for (let i = 0; i < device.pci.readConfig(0x11c, 4); i++) m.pageRequest(device, 5, 0x1000n, i);
      });
      expect(m.log).not.toContain("IOMMU: dmar0: PRQ overflow detected");
    });
  });
});

describe("drain (H23)", () => {
  it("answers what a process had asked for before its PASID is given to another (I-3, L-13)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, address, pasid } = await setUp(m);
      m.pageRequest(device, pasid, address, 1, { write: true });
      m.pageRequest(device, pasid, address + 0x1000n, 2, { write: true });
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      expect(device.pci.responses.map(({ prgi }) => prgi).toSorted((a, b) => a - b)).toEqual([1, 2]);
      const other = m.process("other");
      expect(await m.platform.sva.iommuSvaBindDevice(device.dev, other, 1)).toBe(pasid);
      await settled(m);
      expect(device.pci.responses.length).toBe(2);
    });
  });

  it("waits for requests of this function with this PASID only (L-14)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, address, pasid, mm } = await setUp(m);
      const other = await m.plug("0000:00:06.0");
      await m.platform.sva.iommuSvaDeviceInit(other.dev, 1, 0);
      await m.platform.sva.iommuSvaBindDevice(other.dev, mm, 1);
      // The other device keeps the queue busy: its requests come faster than they are handled.
      let flooding = true;
      let sent = 0;
      m.platform.scheduler.spawn("flood", async () => {
        while (flooding && sent < 500) {
          m.pageRequest(other, pasid, address + BigInt((sent % PAGES) * 0x1000), sent++ & 0x1ff);
          await m.platform.scheduler.yield();
        }
      });
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      flooding = false;
      expect(sent).toBeLessThan(500);
    });
  });
});

describe("flush of the hardware queue", () => {
  it("ends though another process of the same function never stops asking (E9)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, pasid } = await setUp(m);
      const busy = m.process();
      const address = await busy.mmap({ length: PAGES * 0x1000 });
      const busyPasid = await m.platform.sva.iommuSvaBindDevice(device.dev, busy, 1);
      let flooding = true;
      let sent = 0;
      m.platform.scheduler.spawn("flood", async () => {
        while (flooding && sent < 1000) {
          for (let i = 0; i < 2; i++)
            m.pageRequest(device, busyPasid, address + BigInt((sent % PAGES) * 0x1000), sent++ & 0x1ff);
          await m.platform.scheduler.yield();
        }
      });
      await m.platform.scheduler.yield();
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      flooding = false;
      expect(sent).toBeLessThan(1000);
      await settled(m);
      expect(device.pci.responses).toHaveLength(sent);
    });
  });
});

describe("pageResponse", () => {
  it("is nothing for a device that has been released (E16)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device } = await setUp(m);
      await m.platform.unplug(device.dev.name);
      await m.ops.pageResponse(device.dev, { pasid: 1, grpid: 1, code: "success", responseNeedsPasid: true });
      expect(device.pci.responses).toEqual([]);
    });
  });
});
