import {
  Access,
  IommuProt,
  iommuMap,
  iommuUnmap,
  iommuUnmapFast,
  NO_PASID,
  newGather,
  TranslationStatus,
} from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { isaWindow } from "../../src/driver/reserved-regions.js";
import { everything, qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { type Machine, machine, withFields } from "./machine.js";

const RW = IommuProt.READ | IommuProt.WRITE;
const { OK, FAULT } = TranslationStatus;
const firstStageOnly = withFields(sapphireRapidsLike, { ecap: { SSTS: 0 } });

const modes = [
  ["legacy mode", { preset: qemu11Q35 }],
  ["scalable mode, second stage", { preset: sapphireRapidsLike }],
  ["scalable mode, first stage", { preset: firstStageOnly }],
  ["a scalable unit in legacy mode", { preset: everything, mode: "legacy" }],
] as const;

describe.each(modes)("domains in %s", (_mode, options) => {
  it("translate what is mapped, with the rights it has, and nothing after the unmap", async () => {
    const m = await machine(options);
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      await m.platform.groups.attachGroup(domain, groupOf(device));
      await iommuMap(domain, 0x10_0000n, 0x1_0020_0000, 0x4000n, RW);
      await iommuMap(domain, 0x20_0000n, 0x1_0040_0000, 0x20_0000n, IommuProt.READ);
      expect(m.translate(device, 0x10_1234n, Access.WRITE)).toEqual([OK, 0x1_0020_1234]);
      expect(m.translate(device, 0x3f_f000n, Access.READ)).toEqual([OK, 0x1_005f_f000]);
      expect(m.translate(device, 0x20_0000n, Access.WRITE)[0]).toBe(FAULT);
      expect(m.ops.iovaToPhys(domain, 0x10_1234n)).toBe(0x1_0020_1234);
      expect(await iommuUnmap(domain, 0x10_0000n, 0x4000n)).toBe(0x4000n);
      for (let page = 0n; page < 4n; page++) {
        expect(m.translate(device, 0x10_0000n + page * 0x1000n, Access.READ)[0]).toBe(FAULT);
      }
      expect(m.ops.iovaToPhys(domain, 0x10_1234n)).toBeUndefined();
      await m.platform.groups.detachGroup(domain, groupOf(device));
      expect(m.translate(device, 0x20_0000n, Access.READ)[0]).toBe(FAULT);
      m.ops.domainFree(domain);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("let everything through when they are identity, and nothing when blocked", async () => {
    const m = await machine(options);
    await m.run(async () => {
      const device = await m.plug();
      const identity = m.ops.domainAlloc("identity", device.dev);
      const blocked = m.ops.domainAlloc("blocked", device.dev);
      await m.platform.groups.attachGroup(identity, groupOf(device));
      expect(m.translate(device, 0x1_0012_3456n, Access.WRITE)).toEqual([OK, 0x1_0012_3456]);
      expect(m.ops.iovaToPhys(identity, 0x5000n)).toBe(0x5000);
      await m.platform.groups.detachGroup(identity, groupOf(device));
      await m.platform.groups.attachGroup(blocked, groupOf(device));
      expect(m.translate(device, 0x1_0012_3456n, Access.READ)[0]).toBe(FAULT);
      await m.platform.groups.detachGroup(blocked, groupOf(device));
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("are shared by devices and keep other domains' devices out", async () => {
    const m = await machine(options);
    await m.run(async () => {
      const [a, b, c] = [await m.plug("0000:00:05.0"), await m.plug("0000:01:06.0"), await m.plug("0000:01:1f.0")];
      const [shared, own] = [m.ops.domainAlloc("unmanaged", a.dev), m.ops.domainAlloc("unmanaged", c.dev)];
      for (const device of [a, b]) await m.platform.groups.attachGroup(shared, groupOf(device));
      await m.platform.groups.attachGroup(own, groupOf(c));
      await iommuMap(shared, 0x1000n, 0x1_0020_0000, 0x1000n, RW);
      await iommuMap(own, 0x1000n, 0x1_0030_0000, 0x1000n, RW);
      expect([a, b, c].map((device) => m.translate(device, 0x1000n, Access.READ)[1])).toEqual([
        0x1_0020_0000, 0x1_0020_0000, 0x1_0030_0000,
      ]);
      await m.platform.groups.detachGroup(shared, groupOf(a));
      expect(m.translate(b, 0x1000n, Access.READ)[0]).toBe(OK);
      await iommuUnmap(shared, 0x1000n, 0x1000n);
      expect([m.translate(b, 0x1000n, Access.READ)[0], m.translate(c, 0x1000n, Access.READ)[0]]).toEqual([FAULT, OK]);
    });
  });

  it("give back a table that a larger page replaced, when nobody walks it any more", async () => {
    const m = await machine(options);
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      await m.platform.groups.attachGroup(domain, groupOf(device));
      await iommuMap(domain, 0x20_0000n, 0x1_0020_0000, 0x1000n, RW);
      expect(m.translate(device, 0x20_0000n, Access.READ)[0]).toBe(OK);
      await iommuUnmap(domain, 0x20_0000n, 0x1000n);
      const before = m.platform.pages.usage().get(`vtd page tables of domain ${domain.id}`) ?? 0;
      await iommuMap(domain, 0x20_0000n, 0x1_0040_0000, 0x20_0000n, RW);
      expect(m.translate(device, 0x21_2345n, Access.READ)).toEqual([OK, 0x1_0041_2345]);
      expect(m.platform.pages.usage().get(`vtd page tables of domain ${domain.id}`)).toBe(before - 1);
    });
  });

  it("refuse what leaves the aperture with ERANGE and sizes that do not exist with EINVAL", async () => {
    const m = await machine(options);
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      expect(() => m.ops.map(domain, domain.aperture.end + 1n, 0, 0x1000, 1, RW)).toThrow("ERANGE");
      expect(() => m.ops.map(domain, 0n, 0, 0x2000, 1, RW)).toThrow("EINVAL");
      expect(() => m.ops.map(m.ops.domainAlloc("identity", device.dev), 0n, 0, 0x1000, 1, RW)).toThrow("EINVAL");
    });
  });
});

function groupOf({ dev }: { readonly dev: { readonly group?: unknown } }) {
  return dev.group as Parameters<Machine["platform"]["groups"]["attachGroup"]>[1];
}

describe("lazy mode", () => {
  /** A mapped page that the unit has cached. */
  async function cached(m: Machine) {
    const device = await m.plug();
    const domain = groupOf(device).domain;
    if (!domain) throw new Error("no default domain");
    await iommuMap(domain, 0x5000n, 0x1_0020_0000, 0x1000n, RW);
    expect(m.translate(device, 0x5000n, Access.WRITE)[0]).toBe(OK);
    const unmap = async () => {
      const gather = newGather(domain.type === "dma-fq");
      iommuUnmapFast(domain, 0x5000n, 0x1000n, gather);
      await m.ops.iotlbSync(domain, gather);
    };
    return { device, domain, unmap };
  }

  it("leaves an unmapped page reachable until the flush queue's timer runs (L-28)", async () => {
    const m = await machine({ strict: false });
    await m.run(async () => {
      const { device, domain, unmap } = await cached(m);
      expect(domain.type).toBe("dma-fq");
      expect(await m.descriptors(unmap)).toEqual([]);
      expect(m.translate(device, 0x5000n, Access.WRITE)[0]).toBe(OK);
      await m.platform.scheduler.sleep(9_000_000);
      expect(m.translate(device, 0x5000n, Access.WRITE)[0]).toBe(OK);
      expect(await m.descriptors(() => m.platform.scheduler.sleep(2_000_000))).toEqual([
        "iotlb_inv_dsc",
        "dev_tlb_inv_dsc",
      ]);
      expect(m.translate(device, 0x5000n, Access.WRITE)[0]).toBe(FAULT);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("closes the window at once in strict mode", async () => {
    const m = await machine();
    await m.run(async () => {
      const { device, domain, unmap } = await cached(m);
      expect(domain.type).toBe("dma");
      await unmap();
      expect(m.translate(device, 0x5000n, Access.WRITE)[0]).toBe(FAULT);
    });
  });

  it("flushes once for a full ring", async () => {
    const m = await machine({ strict: false, flushQueue: { size: 8 } });
    await m.run(async () => {
      const { domain, unmap } = await cached(m);
      const commands = await m.descriptors(async () => {
        for (let i = 0; i < 20; i++) {
          await unmap();
          await iommuMap(domain, 0x5000n, 0x1_0020_0000, 0x1000n, RW);
        }
      });
      expect(commands.filter((name) => name === "iotlb_inv_dsc").length).toBe(2);
    });
  });

  it("keeps tables that an unmap took out until the flush, and does not leak them", async () => {
    const m = await machine({ strict: false });
    await m.run(async () => {
      const { domain } = await cached(m);
      await iommuMap(domain, 0x40_0000n, 0x1_0021_1000, 0x20_0000n, RW);
      const owner = `vtd page tables of domain ${domain.id}`;
      const before = m.platform.pages.usage().get(owner) ?? 0;
      const gather = newGather(true);
      iommuUnmapFast(domain, 0x40_0000n, 0x20_0000n, gather);
      await m.ops.iotlbSync(domain, gather);
      expect(m.platform.pages.usage().get(owner)).toBe(before);
      await m.platform.scheduler.sleep(11_000_000);
      expect(m.platform.pages.usage().get(owner)).toBe(before - 1);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});

describe("enforceCacheCoherency (H26)", () => {
  it("sets SNP in leaves that are mapped afterwards", async () => {
    const m = await machine({ preset: withFields(qemu11Q35, { ecap: { SC: 1 } }) });
    await m.run(async () => {
      const { dev } = await m.plug();
      const domain = m.ops.domainAlloc("unmanaged", dev);
      expect(m.ops.enforceCacheCoherency(domain)).toBe(true);
      const values = (await m.trace(() => iommuMap(domain, 0n, 0x5000, 0x1000n, RW)))
        .filter((record) => record.name === "table:written")
        .map((record) => record.value);
      expect(values.at(-1)).toBe(0x5803n);
    });
  });

  it("refuses a second stage with leaves that lack the bit, and a unit without snoop control", async () => {
    const m = await machine({ preset: withFields(qemu11Q35, { ecap: { SC: 1 } }) });
    const without = await machine({ preset: qemu11Q35 });
    await m.run(async () => {
      const { dev } = await m.plug();
      const domain = m.ops.domainAlloc("unmanaged", dev);
      await iommuMap(domain, 0n, 0x5000, 0x1000n, RW);
      expect(m.ops.enforceCacheCoherency(domain)).toBe(false);
      expect(m.ops.capable(dev, "enforce-cache-coherency")).toBe(true);
    });
    await without.run(async () => {
      const { dev } = await without.plug();
      expect(without.ops.enforceCacheCoherency(without.ops.domainAlloc("unmanaged", dev))).toBe(false);
      expect(without.ops.capable(dev, "enforce-cache-coherency")).toBe(false);
    });
  });

  it("is what first-stage entries do from the start (PGSNP)", async () => {
    const m = await machine({ preset: firstStageOnly });
    await m.run(async () => {
      const device = await m.plug();
      const domain = groupOf(device).domain;
      if (!domain) throw new Error("no default domain");
      await iommuMap(domain, 0n, 0x5000, 0x1000n, RW);
      expect(m.ops.enforceCacheCoherency(domain)).toBe(true);
    });
  });
});

describe("ATS", () => {
  it("goes on in legacy mode with a domain that translates, and off with it (TT = 01b)", async () => {
    const m = await machine({ preset: everything, mode: "legacy" });
    await m.run(async () => {
      const device = await m.plug();
      const { domain } = groupOf(device);
      if (!domain) throw new Error("no default domain");
      expect(device.pci.ats).toBe(true);
      await iommuMap(domain, 0x5000n, 0x1_0020_0000, 0x1000n, RW);
      const [, completion] = m.ats(device, 0x5000n, Access.READ | Access.WRITE, NO_PASID);
      expect([completion.read, completion.write, completion.lo]).toEqual([true, true, 0x20_0000]);
      expect(await m.descriptors(() => iommuUnmap(domain, 0x5000n, 0x1000n))).toEqual([
        "iotlb_inv_dsc",
        "dev_tlb_inv_dsc",
      ]);
      const identity = m.ops.domainAlloc("identity", device.dev);
      const left = await m.descriptors(() => m.platform.groups.attachGroup(identity, groupOf(device)));
      expect(left).toEqual(["cc_inv_dsc", "iotlb_inv_dsc", "dev_tlb_inv_dsc"]);
      expect(device.pci.ats).toBe(false);
    });
  });

  it("stays off where the unit has no device-TLBs, or requests are not page-aligned", async () => {
    const on = async (preset: typeof everything, pageAligned: boolean) => {
      const m = await machine({ preset });
      return m.run(async () => (await m.plug("0000:00:05.0", { pageAligned })).pci.ats);
    };
    expect(await on(everything, true)).toBe(true);
    expect(await on(everything, false)).toBe(false);
    expect(await on(withFields(everything, { ecap: { DT: 0 } }), true)).toBe(false);
  });
});

describe("what Linux does otherwise", () => {
  it("lets a write-only mapping be read up to 6.12", async () => {
    const readable = async (writeImpliesRead: boolean) => {
      const m = await machine({ preset: qemu11Q35, writeImpliesRead });
      return m.run(async () => {
        const device = await m.plug();
        const { domain } = groupOf(device);
        if (!domain) throw new Error("no default domain");
        await iommuMap(domain, 0n, 0x1_0020_0000, 0x1000n, IommuProt.WRITE);
        return m.translate(device, 0n, Access.READ)[0];
      });
    };
    expect([await readable(true), await readable(false)]).toEqual([OK, FAULT]);
  });

  it("writes AW where it is reserved: a strict unit refuses the entry", async () => {
    const usable = async (widthAlways: boolean) => {
      const m = await machine({ preset: firstStageOnly, widthAlways });
      return m.run(async () => {
        const device = await m.plug();
        const { domain } = groupOf(device);
        if (!domain) throw new Error("no default domain");
        await iommuMap(domain, 0n, 0x1_0020_0000, 0x1000n, RW);
        return m.translate(device, 0n, Access.READ)[0];
      });
    };
    expect([await usable(true), await usable(false)]).toEqual([FAULT, OK]);
  });
});

describe("reserved regions", () => {
  it("are the interrupt window for every device (H11)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev } = await m.plug();
      expect(m.ops.reservedRegions(dev)).toEqual([{ start: 0xfee0_0000n, length: 0x10_0000n, type: "msi", prot: 0 }]);
    });
  });

  it("are mapped one to one for the device that the firmware names", async () => {
    const m = await machine({ preset: qemu11Q35, reservedMemory: [isaWindow(0xf8)] });
    await m.run(async () => {
      const [isa, other] = [await m.plug("0000:00:1f.0"), await m.plug("0000:00:05.0")];
      expect(m.ops.reservedRegions(isa.dev)[0]).toMatchObject({
        start: 0n,
        length: 0x100_0000n,
        type: "direct-relaxable",
      });
      expect(m.translate(isa, 0xff_f000n, Access.WRITE)).toEqual([OK, 0xff_f000]);
      expect(m.translate(other, 0xff_f000n, Access.WRITE)[0]).toBe(FAULT);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});

describe("domain-ids", () => {
  it("are given out from 2 up when a domain gets its first device, and again when it has none", async () => {
    const m = await machine({ preset: qemu11Q35 });
    const did = (domain: unknown) => (domain as { did: number }).did;
    await m.run(async () => {
      const [a, b] = [await m.plug("0000:00:05.0"), await m.plug("0000:00:06.0")];
      const [first, second] = [groupOf(a).domain, groupOf(b).domain];
      expect([did(first), did(second)]).toEqual([2, 3]);
      const mine = m.ops.domainAlloc("unmanaged", a.dev);
      await m.platform.groups.attachGroup(mine, groupOf(a));
      expect(did(mine)).toBe(2);
    });
  });

  it("run out with ENOSPC and leave the device where it was", async () => {
    const m = await machine({ preset: withFields(qemu11Q35, { cap: { ND: 0 } }) });
    await m.run(async () => {
      const devices = [];
      for (let slot = 1; slot <= 14; slot++)
        devices.push(await m.plug(`0000:00:${slot.toString(16).padStart(2, "0")}.0`));
      await expect(m.plug("0000:00:10.0")).rejects.toThrow("ENOSPC");
      for (const device of devices) expect(m.translate(device, 0x1000n, Access.READ)[0]).toBe(FAULT);
      expect(m.faults().at(-1)).toContain("PTE Read access is not set");
    });
  });
});

describe("capable", () => {
  it.each([
    ["cache-coherency", true],
    ["deferred-flush", true],
    ["noexec", false],
    ["pre-boot-protection", false],
    ["dirty-tracking", false],
    ["isolated-msi", true],
  ] as const)("%s is %s", async (cap, expected) => {
    const m = await machine({ preset: qemu11Q35 });
    await m.run(async () => {
      const { dev } = await m.plug();
      expect(m.ops.capable(dev, cap)).toBe(expected);
    });
  });
});
