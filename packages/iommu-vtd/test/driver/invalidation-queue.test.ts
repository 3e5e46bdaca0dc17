import { IommuProt, iommuMap, iommuUnmap, isErrno, type Scheduler } from "@iommukit/core";
import { describe, expect, it, vi } from "vitest";
import { Parts } from "../../src/driver/bring-up.js";
import { fence, iotlbInvalidate, pasidCacheInvalidate } from "../../src/driver/descriptors.js";
import type { InvalidationQueue } from "../../src/driver/invalidation-queue.js";
import { qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { FSTS, GSTS, IQH, IQT } from "../../src/spec/registers.js";
import { type Machine, machine } from "./machine.js";

const RW = IommuProt.READ | IommuProt.WRITE;
const drain = { DWD: true, DRD: true };
const SECOND = 1_000_000_000;

/** The queue of a machine's driver, caught when the driver puts its parts together. */
async function withQueue(options: Parameters<typeof machine>[0]): Promise<[Machine, InvalidationQueue]> {
  const start = vi.spyOn(Parts.prototype, "start");
  const m = await machine(options);
  const [{ queue }] = start.mock.contexts as Parts[];
  start.mockRestore();
  return [m, queue];
}

describe("InvalidationQueue", () => {
  it.each([qemu11Q35, sapphireRapidsLike])("goes round and round ($name)", async (preset) => {
    const [m, queue] = await withQueue({ preset });
    await m.run(async () => {
      for (let i = 0; i < 600; i++) await queue.submit([iotlbInvalidate(drain, "domain", i & 0xff)]);
      await queue.submit(Array.from({ length: 254 }, () => fence()));
      // Any number of devices may share a domain: what the queue cannot hold follows.
      await queue.submit(Array.from({ length: 600 }, () => fence()));
    });
    expect(m.chip.commandsConsumed().inv_wait_dsc).toBeGreaterThan(254 + 600);
    expect(m.chip.read32(IQH.offset)).toBe(m.chip.read32(IQT.offset));
    expect(await m.platform.close()).toEqual([]);
  });

  it("ends with a wait before it is switched off, also when nothing was ever queued (6.5.2)", async () => {
    const m = await machine({ preset: sapphireRapidsLike });
    expect(m.chip.read32(IQT.offset)).toBe(0);
    expect(await m.platform.close()).toEqual([]);
    expect(m.chip.read32(GSTS.offset) & GSTS.QIES.lowMask).toBe(0);
    expect(m.chip.read32(IQT.offset)).toBe(1 << 5);
  });

  it("lets several threads wait at a time, whoever is done first", async () => {
    const [m, queue] = await withQueue({});
    const done: number[] = [];
    await m.run(async () => {
      const device = await m.plug();
      await m.platform.sva.iommuSvaDeviceInit(device.dev, 0, 0);
      const domain = device.dev.group?.domain;
      if (!domain) throw new Error("no default domain");
      await iommuMap(domain, 0n, 0x1_0020_0000, 0x1000n, RW);
      device.pci.silent = true;
      const spawn = (n: number, body: () => Promise<unknown> | undefined) =>
        m.platform.scheduler.spawn(`t${n}`, async () => {
          await body();
          done.push(n);
        });
      spawn(1, () => iommuUnmap(domain, 0n, 0x1000n));
      spawn(2, () => queue.submit([iotlbInvalidate(drain, "global")]));
      await m.platform.scheduler.sleep(1000);
      expect(done).toEqual([]);
      const { itag } = device.pci.invalidations[device.pci.invalidations.length - 1];
      m.chip.invalidateCompletion({ rid: device.dev.rid, itagVector: 2 ** itag, count: 1 });
      await m.platform.scheduler.sleep(SECOND);
      expect(done.toSorted((a, b) => a - b)).toEqual([1, 2]);
    });
  });

  it("steps over a descriptor that the unit refuses, carries out the rest, and says EINVAL (IQE)", async () => {
    const [m, queue] = await withQueue({ preset: qemu11Q35 });
    await m.run(async () => {
      const refused = pasidCacheInvalidate("global");
      const seen = await m.descriptors(async () => {
        const error = await queue
          .submit([iotlbInvalidate(drain, "domain", 1), refused, iotlbInvalidate(drain, "domain", 2)])
          ?.catch((e) => e);
        expect(isErrno(error, "EINVAL")).toBe(true);
      });
      expect(seen).toEqual(["iotlb_inv_dsc", "iotlb_inv_dsc"]);
      expect(m.chip.read32(FSTS.offset) & FSTS.IQE.lowMask).toBe(0);
      await queue.submit([iotlbInvalidate(drain, "global")]);
    });
    expect(m.log.slice(1)).toContain("DMAR: VT-d detected Invalidation Queue Error: Reason 3");
    expect(m.log).toContain("DMAR: QI HEAD: PASID-cache Invalidation qw0 = 0x37, qw1 = 0x0");
    expect(m.log).toContain("DMAR: Invalidation Queue Error (IQE) cleared");
  });

  /** A device that does not complete invalidations any more, with a page mapped. */
  async function silentDevice(m: Machine) {
    const device = await m.plug();
    await m.platform.sva.iommuSvaDeviceInit(device.dev, 0, 0);
    const domain = device.dev.group?.domain;
    if (!domain) throw new Error("no default domain");
    await iommuMap(domain, 0n, 0x1_0020_0000, 0x1000n, RW);
    device.pci.silent = true;
    device.pci.invalidations.length = 0;
    return { device, domain, now: () => (m.platform.scheduler as Scheduler).now };
  }

  it("gives up on a device that does not answer after three tries, and works on (ITE)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, domain, now } = await silentDevice(m);
      const start = now();
      await iommuUnmap(domain, 0n, 0x1000n);
      expect(device.pci.invalidations.length).toBe(3);
      expect(now() - start).toBeLessThan(3 * 61 * SECOND * 1.125);
      device.pci.silent = false;
      await iommuMap(domain, 0n, 0x1_0020_0000, 0x1000n, RW);
      expect(await m.descriptors(() => iommuUnmap(domain, 0n, 0x1000n))).toEqual(["iotlb_inv_dsc", "dev_tlb_inv_dsc"]);
    });
    expect(m.log).toContain("DMAR: VT-d detected Invalidation Time-out Error: SID 28");
    expect(m.log).toContain("DMAR: Invalidation Time-out Error (ITE) cleared");
  });

  it("does not try again when the device went away meanwhile (L-24)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, domain } = await silentDevice(m);
      m.platform.scheduler.timer(SECOND, () => {
        device.pci.present = false;
      });
      await iommuUnmap(domain, 0n, 0x1000n);
      expect(device.pci.invalidations.length).toBe(1);
    });
  });

  it("sends nothing to a device that is not there (I13)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, domain } = await silentDevice(m);
      device.pci.present = false;
      expect(await m.descriptors(() => iommuUnmap(domain, 0n, 0x1000n))).toEqual(["iotlb_inv_dsc"]);
    });
  });

  it("notes a completion that nobody asked for (ICE)", async () => {
    const [m, queue] = await withQueue({});
    await m.run(async () => {
      const device = await m.plug();
      await m.platform.sva.iommuSvaDeviceInit(device.dev, 0, 0);
      const domain = device.dev.group?.domain;
      if (!domain) throw new Error("no default domain");
      m.chip.invalidateCompletion({ rid: device.dev.rid, itagVector: 1, count: 1 });
      device.pci.silent = true;
      m.platform.scheduler.timer(5_000, () => {
        const { itag } = device.pci.invalidations[device.pci.invalidations.length - 1];
        m.chip.invalidateCompletion({ rid: device.dev.rid, itagVector: 2 ** itag, count: 1 });
      });
      await iommuMap(domain, 0n, 0x1_0020_0000, 0x1000n, RW);
      await iommuUnmap(domain, 0n, 0x1000n);
      await queue.submit([fence()]);
    });
    expect(m.log).toContain("DMAR: VT-d detected Invalidation Completion Error: SID 28");
    expect(m.log).toContain("DMAR: Invalidation Completion Error (ICE) cleared");
    expect(m.chip.read32(FSTS.offset) & FSTS.ICE.lowMask).toBe(0);
  });
});
