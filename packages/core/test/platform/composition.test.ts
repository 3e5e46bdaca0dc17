/** Machines that cannot be are refused with an errno and the numbers, and leave nothing half done. */
import { describe, expect, it } from "vitest";
import {
  createPlatform,
  type DevicePlugin,
  IommuError,
  type PlatformOptions,
  type ServicePlugin,
} from "../../src/index.js";
import { FakePciFunction, fakeIommu } from "../../src/testing/index.js";

const MIB = 0x10_0000;
const RAM = { base: 0x1_0000_0000, size: 16 * MIB };

function card(...bdfs: string[]): DevicePlugin {
  return { name: "card", segment: 0, create: () => bdfs.map((bdf) => new FakePciFunction(bdf)) };
}

describe("createPlatform", () => {
  it.each<[string, Partial<PlatformOptions>, string]>([
    ["no RAM", { ram: [] }, "EINVAL: no RAM"],
    ["RAM of nothing", { ram: [{ ...RAM, size: 0 }] }, "EINVAL: RAM 0x100000000 + 0x0 is not whole pages"],
    ["RAM of less than nothing", { ram: [{ ...RAM, size: -4096 }] }, "EINVAL: RAM 0x100000000"],
    ["RAM that is no number", { ram: [{ ...RAM, base: Number.NaN }] }, "EINVAL: RAM 0xNaN"],
    ["an unaligned base", { ram: [{ ...RAM, base: RAM.base + 1 }] }, "EINVAL: RAM 0x100000001"],
    ["a base below 0", { ram: [{ ...RAM, base: -4096 }] }, "leaves the 52-bit physical address space"],
    ["RAM above 52 bits", { ram: [{ base: 2 ** 52 - 4096, size: 8192 }] }, "leaves the 52-bit physical address space"],
    [
      "RAM that overlaps",
      { ram: [RAM, { base: RAM.base + 8 * MIB, size: 16 * MIB }] },
      "EINVAL: RAM 0x100800000 + 0x1000000 overlaps RAM 0x100000000 + 0x1000000",
    ],
    ["RAM over the doorbell", { ram: [{ base: 0, size: 2 ** 32 }] }, "EINVAL: RAM lies over the interrupt messages'"],
    ["an unknown SVA core", { sva: "toString" as "seed" }, 'EINVAL: no SVA core "toString"; there are seed, mainline'],
    ["addresses of too few bits", { mm: { addressBits: 10 } }, "EINVAL: user addresses of 10 bits; 32 to 56"],
    ["an unknown bug", { variants: ["S-99"] }, 'EINVAL: no variant "S-99"'],
    [
      "two devices at one address",
      { devices: [card("0000:01:00.0"), card("0000:01:00.0")] },
      "EEXIST: there is a device",
    ],
    [
      "two devices at one address, behind no IOMMU",
      { iommus: [], devices: [card("0000:01:00.0"), card("0000:01:00.0")] },
      "EEXIST: there is a device 0000:01:00.0 already",
    ],
    ["an address that is none", { devices: [card("zz")] }, 'EINVAL: "zz" is no PCI address'],
  ])("refuses %s", async (_what, options, says) => {
    await expect(createPlatform({ iommus: [fakeIommu], ...options })).rejects.toThrow(says);
  });

  it("takes regions side by side, in any order", async () => {
    const platform = await createPlatform({ iommus: [], ram: [{ base: RAM.base + RAM.size, size: MIB }, RAM] });
    expect(await platform.close()).toEqual([]);
  });
});

describe("Platform.plug", () => {
  it("takes back every function when one is refused", async () => {
    const platform = await createPlatform({ iommus: [fakeIommu], devices: [card("0000:01:00.1")] });
    const before = platform.device("0000:01:00.1");
    await platform.run(async () => {
      await expect(platform.plug(card("0000:01:00.0", "0000:01:00.1", "0000:01:00.2"))).rejects.toThrow("EEXIST");
      expect([...platform.devices.values()]).toEqual([before]);
      await platform.plug(card("0000:01:00.0", "0000:01:00.2"));
    });
    expect(platform.devices.size).toBe(3);
    expect(await platform.close()).toEqual([]);
  });

  it("has the IOMMU driver forget a device that no group takes", async () => {
    const platform = await createPlatform({ iommus: [fakeIommu] });
    const [iommu] = platform.iommus;
    const released: string[] = [];
    const release = iommu.ops.releaseDevice.bind(iommu.ops);
    iommu.ops.releaseDevice = async (device) => {
      released.push(device.name);
      await release(device);
    };
    iommu.ops.domainAlloc = () => {
      throw new IommuError("ENOMEM", "no domain");
    };
    await platform.run(async () => {
      await expect(platform.plug(card("0000:01:00.0"))).rejects.toThrow("ENOMEM");
    });
    expect([released, platform.devices.size, platform.groups.all.size]).toEqual([["0000:01:00.0"], 0, 0]);
    expect(await platform.close()).toEqual([]);
  });

  it("says ENODEV for a device that is not there", async () => {
    const platform = await createPlatform({ iommus: [] });
    expect(() => platform.device("0000:01:00.0")).toThrow("ENODEV: no device 0000:01:00.0; there are none");
    await expect(platform.run(() => platform.unplug("0000:01:00.0"))).rejects.toThrow("ENODEV");
  });
});

it("a service that cannot be installed is not told of devices", async () => {
  const platform = await createPlatform({ iommus: [fakeIommu] });
  const told: string[] = [];
  const service: ServicePlugin = {
    name: "broken",
    install: () => Promise.reject(new Error("no")),
    deviceAdded: async (_platform, bdf) => void told.push(bdf),
  };
  await platform.run(async () => {
    await expect(platform.addService(service)).rejects.toThrow("no");
    await platform.plug(card("0000:01:00.0"));
  });
  expect(told).toEqual([]);
});
