import { Access, DeadlockError, IommuProt, iommuMap, iommuUnmap, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { VTD_VARIANTS, type VtdVariant } from "../../src/driver/variants.js";
import { sapphireRapidsLike } from "../../src/presets.js";
import { PASID_IOTLB_INVALIDATE } from "../../src/spec/invalidation.js";
import { PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { type Machine, machine, type PlayedDevice } from "./machine.js";

const RW = IommuProt.READ | IommuProt.WRITE;
const { OK, FAULT } = TranslationStatus;
const PECTL = 0xe0;
const MASKED = 0x8000_0000;

/** What happens with the bug, and what without: the two answers of one scenario. */
const seen = new Set<VtdVariant>();

async function both<T>(
  variant: VtdVariant,
  scenario: (m: Machine) => Promise<T>,
  preset = sapphireRapidsLike,
): Promise<[T, T]> {
  seen.add(variant);
  const buggy = await machine({ preset, variants: [variant] });
  const fixed = await machine({ preset });
  return [await buggy.run(() => scenario(buggy)), await fixed.run(() => scenario(fixed))];
}

function domainOf({ dev }: PlayedDevice) {
  const domain = dev.group?.domain;
  if (!domain) throw new Error("no domain");
  return domain;
}

async function bound(m: Machine) {
  const device = await m.plug();
  const mm = m.process();
  const address = await mm.mmap({ length: 0x10_0000 });
  const pasid = await m.share(device, mm);
  return { device, mm, address, pasid };
}

function sendTo(m: Machine, device: PlayedDevice, pasid: number, address: bigint, count: number): void {
  for (let i = 0; i < count; i++) m.pageRequest(device, pasid, address + BigInt((i % 64) * 0x1000), i & 0x3f);
}

describe("driver variants", () => {
  it("unbind deadlocks with the thread that it waits for (L-5)", async () => {
    seen.add("L-5");
    const scenario = async (m: Machine) => {
      const { device, address, pasid } = await bound(m);
      m.chip.write32(PECTL, MASKED);
      m.pageRequest(device, pasid, address, 1);
      const domain = domainOf(device);
      const ioMm = m.platform.sva.ioMmOf(device.dev.svaParam?.mmList.values().next().value?.ioMm.mm as never);
      if (!ioMm) throw new Error("not bound");
      m.platform.scheduler.timer(1000, () => m.chip.write32(PECTL, 0));
      await m.ops.mmDetach(domain, device.dev, ioMm);
    };
    const buggy = await machine({ variants: ["L-5"] });
    const fixed = await machine();
    await fixed.run(() => scenario(fixed));
    await expect(buggy.run(() => scenario(buggy))).rejects.toThrow(DeadlockError);
  });

  it("a live entry is zeroed before the caches have forgotten it (L-7)", async () => {
    const order = async (m: Machine) => {
      const { device, pasid } = await bound(m);
      const records = await m.trace(() => m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid));
      const firstFlush = records.findIndex((r) => r.name === "command:consumed");
      return records.slice(0, firstFlush).filter((r) => r.name === "table:written" && r.table === PASID_ENTRY.name)
        .length;
    };
    expect(await both("L-7", order)).toEqual([8, 1]);
  });

  it("an exit with DMA in flight fills the fault log (L-9)", async () => {
    const scenario = async (m: Machine) => {
      const device = await m.plug();
      const task = m.platform.kernel.spawn({ name: "worker" });
      if (!task.mm) throw new Error("no address space");
      const pasid = await m.share(device, task.mm as ReturnType<Machine["process"]>);
      m.platform.trace.on("mm:released", () => m.translate(device, 0x1000n, Access.READ, pasid));
      await task.exit();
      return m.faults().length > 0;
    };
    expect(await both("L-9", scenario)).toEqual([true, false]);
  });

  it("the next domain with the same domain-id sees the mappings of the last (L-10)", async () => {
    const scenario = async (m: Machine) => {
      const device = await m.plug();
      const [first, second] = [m.ops.domainAlloc("unmanaged", device.dev), m.ops.domainAlloc("unmanaged", device.dev)];
      await m.ops.detachDev(domainOf(device), device.dev);
      await m.ops.attachDev(first, device.dev);
      await iommuMap(first, 0x5000n, 0x1_0020_0000, 0x1000n, RW);
      expect(m.translate(device, 0x5000n, Access.READ)[0]).toBe(OK);
      await m.ops.detachDev(first, device.dev);
      await m.ops.attachDev(second, device.dev);
      return m.translate(device, 0x5000n, Access.READ)[0];
    };
    expect(await both("L-10", scenario)).toEqual([OK, FAULT]);
  });

  it("a changed context entry leaves PASID cache, or device-TLB, as they were (L-11, L-12)", async () => {
    const scenario = async (m: Machine) => {
      const { dev } = await m.plug();
      return m.descriptors(() => m.platform.sva.iommuSvaDeviceInit(dev, 1, 0));
    };
    const all = ["cc_inv_dsc", "pc_inv_dsc", "iotlb_inv_dsc", "dev_tlb_inv_dsc", "p_dev_tlb_inv_dsc"];
    expect(await both("L-11", scenario)).toEqual([all.filter((name) => name !== "pc_inv_dsc"), all]);
    expect(await both("L-12", scenario)).toEqual([all.slice(0, 3), all]);
  });

  it("unbind leaves page requests on the way (L-13)", async () => {
    const scenario = async (m: Machine) => {
      const { device, pasid } = await bound(m);
      const names = await m.descriptors(() => m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid));
      return names.filter((name) => name === "p_iotlb_inv_dsc").length;
    };
    expect(await both("L-13", scenario)).toEqual([1, 2]);
  });

  it("unbind waits for another device's requests (L-14)", async () => {
    seen.add("L-14");
    const scenario = async (m: Machine) => {
      const { device, mm, pasid } = await bound(m);
      const other = await m.plug("0000:00:06.0");
      await m.platform.sva.iommuSvaDeviceInit(other.dev, 1, 0);
      await m.platform.sva.iommuSvaBindDevice(other.dev, mm, 1);
      m.chip.write32(PECTL, MASKED);
      m.pageRequest(other, pasid, 0x1000n, 1);
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
    };
    const fixed = await machine();
    await fixed.run(() => scenario(fixed));
    const buggy = await machine({ variants: ["L-14"] });
    await expect(buggy.run(() => scenario(buggy))).rejects.toThrow(DeadlockError);
  });

  it("half a group survives an overflow (L-15)", async () => {
    const scenario = async (m: Machine) => {
      const { device, address, pasid } = await bound(m);
      m.chip.write32(PECTL, MASKED);
      m.pageRequest(device, pasid, address, 0x1ff, { last: false });
      sendTo(m, device, pasid, address, 2100);
      m.chip.write32(PECTL, 0);
      await m.platform.scheduler.idle();
      return m.platform.sva.inUse().partials;
    };
    expect(await both("L-15", scenario)).toEqual([1, 0]);
  });

  it("devices that keep to their credits overflow the queue (L-16)", async () => {
    const scenario = async (m: Machine) => {
      const { device, address, pasid } = await bound(m);
      const credits = device.pci.readConfig(0x11c, 4);
      m.chip.write32(PECTL, MASKED);
      sendTo(m, device, pasid, address, credits);
      m.chip.write32(PECTL, 0);
      await m.platform.scheduler.idle();
      return m.log.includes("IOMMU: dmar0: PRQ overflow detected");
    };
    expect(await both("L-16", scenario)).toEqual([true, false]);
  });

  it("every request of a group is answered (L-17)", async () => {
    const scenario = async (m: Machine) => {
      const { device, address, pasid } = await bound(m);
      m.pageRequest(device, pasid, address, 4, { last: false });
      m.pageRequest(device, pasid, address + 0x1000n, 4);
      await m.platform.scheduler.idle();
      return device.pci.responses.length;
    };
    expect(await both("L-17", scenario)).toEqual([2, 1]);
  });

  it("requests are lost where the ring's offset does not start a page (L-18)", async () => {
    const scenario = async (m: Machine) => {
      const { device, address, pasid } = await bound(m);
      m.pageRequest(device, pasid, address, 4);
      await m.platform.scheduler.idle();
      return device.pci.responses.length;
    };
    expect(await both("L-18", scenario)).toEqual([0, 1]);
  });

  it("the end of an unaligned range stays cached (L-19)", async () => {
    const scenario = async (m: Machine) => {
      const { device, mm, address, pasid } = await bound(m);
      await mm.write(address, new Uint8Array(0x8000).fill(1));
      const odd = ((address + 0x1fffn) & ~0x1fffn) + 0x1000n;
      expect(m.translate(device, odd + 0x1000n, Access.READ, pasid)[0]).toBe(OK);
      await mm.munmap(odd, 0x2000);
      return m.translate(device, odd + 0x1000n, Access.READ, pasid)[0];
    };
    expect(await both("L-19", scenario)).toEqual([OK, FAULT]);
  });

  it("the second device of a domain keeps what it cached (L-20)", async () => {
    const scenario = async (m: Machine) => {
      const devices = [await m.plug("0000:00:05.0"), await m.plug("0000:00:06.0")];
      const domain = m.ops.domainAlloc("unmanaged", devices[0].dev);
      for (const device of devices) {
        await m.ops.detachDev(domainOf(device), device.dev);
        await m.ops.attachDev(domain, device.dev);
        await m.platform.sva.iommuSvaDeviceInit(device.dev, 0, 0);
        device.pci.invalidations.length = 0;
      }
      await iommuMap(domain, 0n, 0x1_0020_0000, 0x1000n, RW);
      await iommuUnmap(domain, 0n, 0x1000n);
      return devices.map(({ pci }) => pci.invalidations.length);
    };
    const [buggy, fixed] = await both("L-20", scenario);
    expect(buggy[1]).toBe(fixed[1] - 1);
  });

  it("a process's invalidation is for leaves only (L-22)", async () => {
    const scenario = async (m: Machine) => {
      const { mm, address } = await bound(m);
      await mm.write(address, Uint8Array.of(1));
      const records = await m.trace(() => mm.munmap(address, 0x1000));
      const descriptor = records.find((r) => r.name === "command:consumed" && r.command === "p_iotlb_inv_dsc");
      if (descriptor?.name !== "command:consumed") throw new Error("no invalidation");
      return PASID_IOTLB_INVALIDATE.IH.decode(Int32Array.from(descriptor.words));
    };
    expect(await both("L-22", scenario)).toEqual([true, false]);
  });

  it("a device that is gone is asked again and again (L-24)", async () => {
    const scenario = async (m: Machine) => {
      const { device, mm, address } = await bound(m);
      await mm.write(address, Uint8Array.of(1));
      device.pci.silent = true;
      device.pci.invalidations.length = 0;
      m.platform.scheduler.timer(1_000_000_000, () => {
        device.pci.present = false;
      });
      // After ten minutes the driver is let go, so that the test ends.
      m.platform.scheduler.timer(600_000_000_000, () => {
        device.pci.present = true;
        device.pci.silent = false;
      });
      await mm.munmap(address, 0x1000);
      return device.pci.invalidations.length;
    };
    const [buggy, fixed] = await both("L-24", scenario);
    expect(buggy).toBeGreaterThan(5);
    expect(fixed).toBe(1);
  });

  it("are all shown above", () => {
    expect([...seen].sort()).toEqual(Object.keys(VTD_VARIANTS).sort());
  });
});
