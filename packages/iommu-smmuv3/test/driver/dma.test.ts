import { Access, DOORBELL_BASE, IommuProt, isErrno, newGather, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { machine } from "./machine.js";

const RW = IommuProt.READ | IommuProt.WRITE;
const { OK, FAULT } = TranslationStatus;

describe("DMA domains", () => {
  it("translate what was mapped, and nothing else", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      m.ops.map(domain, 0x20_0000n, 0x1_0800_0000, 0x1000, 2, RW);
      m.ops.map(domain, 0x40_0000n, 0x1_0840_0000, 0x20_0000, 1, IommuProt.READ);
      expect(m.translate(device, 0x20_1234n, Access.WRITE).slice(0, 2)).toEqual([OK, 0x1_0800_1234]);
      expect(m.translate(device, 0x41_2345n, Access.READ).slice(0, 2)).toEqual([OK, 0x1_0841_2345]);
      expect(m.translate(device, 0x41_2345n, Access.WRITE)[0]).toBe(FAULT);
      expect(m.translate(device, 0x20_2000n, Access.READ)[0]).toBe(FAULT);
      expect(m.ops.iovaToPhys(domain, 0x20_1234n)).toBe(0x1_0800_1234);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("translate at stage 2 with nesting, bypass for identity, and abort silently when detached", async () => {
    const m = await machine({ preset: "qemu-11-virt" });
    await m.run(async () => {
      const device = await m.plug("0000:00:02.0", { without: ["ats", "pri", "pasid"] });
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      m.ops.enableNesting(domain);
      expect(domain.aperture.end).toBe((1n << 44n) - 1n);
      await m.ops.attachDev(domain, device.dev);
      m.ops.map(domain, 0x1000n, 0x1_0000_2000, 0x1000, 1, RW);
      expect(m.translate(device, 0x1008n, Access.WRITE).slice(0, 2)).toEqual([OK, 0x1_0000_2008]);
      const identity = m.ops.domainAlloc("identity", device.dev);
      await m.ops.attachDev(identity, device.dev);
      expect(m.translate(device, 0x1_0000_5678n, Access.WRITE).slice(0, 2)).toEqual([OK, 0x1_0000_5678]);
      await m.ops.detachDev(identity, device.dev);
      m.log();
      expect(m.translate(device, 0x1000n, Access.READ)[0]).toBe(FAULT);
      await m.platform.scheduler.idle();
      expect(m.log()).toEqual([]);
      m.ops.domainFree(domain);
      m.ops.domainFree(identity);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("invalidate by IPA and by VMID at stage 2", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats"] });
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      m.ops.enableNesting(domain);
      await m.ops.attachDev(domain, device.dev);
      for (const iova of [0x1000n, 0x20_0000n]) {
        m.ops.map(domain, iova, 0x1_0800_0000, 0x1000, 1, RW);
        expect(m.translate(device, iova, Access.WRITE)[0]).toBe(OK);
      }
      expect(await m.commands(() => m.unmap(domain, 0x1000n, 0x1000, 1))).toEqual(["TLBI_S2_IPA"]);
      expect(m.translate(device, 0x1000n, Access.READ)[0]).toBe(FAULT);
      m.ops.unmap(domain, 0x20_0000n, 0x1000, 1, newGather(true));
      expect(await m.commands(() => m.ops.flushIotlbAll(domain))).toEqual(["TLBI_S12_VMALL"]);
      expect(m.translate(device, 0x20_0000n, Access.READ)[0]).toBe(FAULT);
    });
  });

  it("map a block over a table of pages: what walked through the table is gone after the sync", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats"] });
      const domain = m.domainOf(device);
      m.ops.map(domain, 0x20_0000n, 0x1_0800_0000, 0x1000, 1, RW);
      m.translate(device, 0x20_0000n, Access.READ);
      await m.unmap(domain, 0x20_0000n, 0x1000, 1);
      expect(m.translate(device, 0x20_1000n, Access.READ)[0]).toBe(FAULT);
      m.ops.map(domain, 0x20_0000n, 0x1_0820_0000, 0x20_0000, 1, RW);
      expect(await m.commands(() => m.ops.iotlbSyncMap(domain, 0x20_0000n, 0x20_0000n))).toEqual(["TLBI_NH_VA"]);
      expect(m.translate(device, 0x20_1008n, Access.READ).slice(0, 2)).toEqual([OK, 0x1_0820_1008]);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("are of type dma-fq by default when iommu.strict is off", async () => {
    const m = await machine({ strict: false });
    await m.run(async () => {
      const device = await m.plug();
      expect(m.domainOf(device).type).toBe("dma-fq");
      expect(m.ops.domainAlloc("unmanaged", device.dev).type).toBe("unmanaged");
    });
  });

  it("a page is unreachable once its unmap is complete, and not before (I-1)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      m.ops.map(domain, 0x1000n, 0x1_0800_0000, 0x1000, 1, RW);
      expect(m.translate(device, 0x1000n, Access.READ)[0]).toBe(OK);
      const gather = newGather();
      expect(m.ops.unmap(domain, 0x1000n, 0x1000, 1, gather)).toBe(0x1000);
      // The IOTLB still has it.
      expect(m.translate(device, 0x1000n, Access.READ)[0]).toBe(OK);
      const commands = await m.commands(() => m.ops.iotlbSync(domain, gather));
      expect(commands).toEqual(["TLBI_NH_VA", "ATC_INV"]);
      expect(m.translate(device, 0x1000n, Access.READ)[0]).toBe(FAULT);
    });
  });

  it("completes unmaps of lazy mode all at once, and frees their tables then (L-28)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      const pages = () =>
        [...m.platform.pages.usage()]
          .filter(([owner]) => owner.includes("page table"))
          .reduce((n, [, count]) => n + count, 0);
      m.ops.map(domain, 0x20_0000n, 0x1_0800_0000, 0x1000, 4, RW);
      m.translate(device, 0x20_0000n, Access.READ);
      const before = pages();
      m.ops.unmap(domain, 0x20_0000n, 0x20_0000, 1, newGather(true));
      expect(m.translate(device, 0x20_0000n, Access.READ)[0]).toBe(OK);
      expect(pages()).toBe(before);
      expect(await m.commands(() => m.ops.flushIotlbAll(domain))).toEqual(["TLBI_NH_ASID", "ATC_INV"]);
      expect(m.translate(device, 0x20_0000n, Access.READ)[0]).toBe(FAULT);
      expect(pages()).toBe(before - 1);
    });
  });

  it("invalidates ranges that do not join separately, in one go", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { without: ["ats"] });
      const domain = m.domainOf(device);
      const gather = newGather();
      for (const iova of [0x1000n, 0x10_0000n]) {
        m.ops.map(domain, iova, 0x1_0800_0000, 0x1000, 1, RW);
        m.translate(device, iova, Access.READ);
        m.ops.unmap(domain, iova, 0x1000, 1, gather);
      }
      expect(await m.commands(() => m.ops.iotlbSync(domain, gather))).toEqual(["TLBI_NH_VA", "TLBI_NH_VA"]);
      expect(m.translate(device, 0x1000n, Access.READ)[0]).toBe(FAULT);
      expect(m.translate(device, 0x10_0000n, Access.READ)[0]).toBe(FAULT);
    });
  });

  it("sends one invalidation for the whole ASID instead of 512 by page where there is no IDR3.RIL (C7, L-25)", async () => {
    const { PRESETS } = await import("../../src/presets.js");
    const preset = { ...PRESETS["mmu-700-like"], idr3: 0 };
    const count = async (variants: string[]) => {
      const m = await machine({ preset, variants });
      return m.run(async () => {
        const device = await m.plug("0000:00:05.0", { without: ["ats"] });
        const domain = m.domainOf(device);
        m.ops.map(domain, 0n, 0x1_0800_0000, 0x1000, 512, RW);
        m.ops.map(domain, 0x20_0000n, 0x1_0820_0000, 0x1000, 512, RW);
        return (await m.commands(() => m.unmap(domain, 0n, 0x1000, 1024))).join().slice(0, 40);
      });
    };
    expect(await count([])).toBe("TLBI_NH_ASID");
    expect(await count(["L-25"])).toMatch(/^TLBI_NH_VA,TLBI_NH_VA,/);
  });

  it("invalidates the IOTLB before the ATC; the variant does not (C8, L-1)", async () => {
    const order = async (variants: string[]) => {
      const m = await machine({ variants });
      return m.run(async () => {
        const device = await m.plug();
        m.ops.map(m.domainOf(device), 0n, 0x1_0800_0000, 0x1000, 1, RW);
        return m.commands(() => m.unmap(m.domainOf(device), 0n, 0x1000, 1));
      });
    };
    expect(await order([])).toEqual(["TLBI_NH_VA", "ATC_INV"]);
    expect(await order(["L-1"])).toEqual(["ATC_INV", "TLBI_NH_VA"]);
  });

  it("does not ask functions that are gone or whose ATS a reset has disabled (L-23, L-24)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      m.ops.map(domain, 0n, 0x1_0800_0000, 0x1000, 2, RW);
      device.pci.writeConfig(0x106, 2, 0);
      expect(await m.commands(() => m.unmap(domain, 0n, 0x1000, 1))).toEqual(["TLBI_NH_VA"]);
      device.pci.writeConfig(0x106, 2, 0x8000);
      device.pci.present = false;
      expect(await m.commands(() => m.unmap(domain, 0x1000n, 0x1000, 1))).toEqual(["TLBI_NH_VA"]);
    });
  });

  it("refuses another IOMMU's domain, and to free a domain in use", async () => {
    const [one, other] = [await machine(), await machine()];
    await one.run(async () => {
      const device = await one.plug();
      const code = async (body: () => unknown) => {
        try {
          await body();
        } catch (error) {
          if (isErrno(error)) return error.code;
        }
        return undefined;
      };
      const foreign = other.ops.domainAlloc("unmanaged", device.dev);
      expect(await code(() => one.ops.attachDev(foreign, device.dev))).toBe("EINVAL");
      expect(await code(() => one.ops.domainFree(one.domainOf(device)))).toBe("EBUSY");
      expect(await code(() => one.ops.map(one.ops.domainAlloc("identity", device.dev), 0n, 0, 0x1000, 1, RW))).toBe(
        "EINVAL",
      );
    });
  });
});

describe("attach", () => {
  it("enables ATS after the STE allows it, and disables it before the STE forbids it (I4)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      expect([device.pci.ats, device.pci.pasid, device.pci.pri]).toEqual([true, true, false]);
      await m.ops.detachDev(m.domainOf(device), device.dev);
      expect(device.pci.ats).toBe(false);
    });
  });

  it("flushes a domain's tag when its last device leaves: the next one starts clean", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      m.ops.map(domain, 0n, 0x1_0800_0000, 0x1000, 1, RW);
      m.translate(device, 0n, Access.READ);
      const commands = await m.commands(() => m.ops.detachDev(domain, device.dev));
      expect(commands).toContain("TLBI_NH_ASID");
    });
  });

  it("empties the ATC of a device that moves to another domain with ATS on", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.ops.domainAlloc("unmanaged", device.dev);
      const before = device.pci.invalidations.length;
      await m.ops.attachDev(domain, device.dev);
      expect(device.pci.invalidations.slice(before)).toMatchObject([{ shift: 64 }]);
    });
  });

  it("goes on without ATS when the function refuses it", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      await m.ops.detachDev(domain, device.dev);
      // Somebody else has enabled it meanwhile: pci_enable_ats answers EBUSY.
      device.pci.writeConfig(0x106, 2, 0x8000);
      m.log();
      await m.ops.attachDev(domain, device.dev);
      expect(m.log()).toEqual(["arm-smmu-v3 smmuv3: 0000:00:05.0: Failed to enable ATS (STU 12)"]);
      m.ops.map(domain, 0n, 0x1_0800_0000, 0x1000, 1, RW);
      expect(await m.commands(() => m.unmap(domain, 0n, 0x1000, 1))).toEqual(["TLBI_NH_VA"]);
    });
  });

  it("reports the software MSI window (F24)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev } = await m.plug();
      expect(m.ops.reservedRegions(dev)).toMatchObject([{ start: 0x800_0000n, length: 0x10_0000n, type: "sw-msi" }]);
      expect(m.ops.capable(dev, "cache-coherency")).toBe(true);
      expect(m.ops.capable(dev, "enforce-cache-coherency")).toBe(false);
    });
  });

  it("translates messages of devices like any other write (G36)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const write = Access.WRITE | Access.MSI;
      expect(m.translate(device, BigInt(DOORBELL_BASE), write)[0]).toBe(FAULT);
      m.ops.map(
        m.domainOf(device),
        0x800_0000n,
        DOORBELL_BASE,
        0x1000,
        1,
        IommuProt.WRITE | IommuProt.MMIO | IommuProt.NOEXEC,
      );
      expect(m.translate(device, 0x800_0040n, write).slice(0, 2)).toEqual([OK, DOORBELL_BASE + 0x40]);
    });
  });

  it("makes second levels of the stream table when a stream of them first comes (G10)", async () => {
    const m = await machine();
    await m.run(async () => {
      const tables = () => m.platform.pages.usage().get("smmuv3 stream table, level 2") ?? 0;
      expect(tables()).toBe(0);
      await m.plug("0000:00:05.0");
      await m.plug("0000:00:06.0");
      expect(tables()).toBe(4);
      const far = await m.plug("0000:7f:05.0");
      expect(tables()).toBe(8);
      m.ops.map(m.domainOf(far), 0n, 0x1_0800_0000, 0x1000, 1, RW);
      expect(m.translate(far, 0n, Access.READ)[0]).toBe(OK);
    });
  });

  it("refuses a StreamID that the stream table does not have (ERANGE)", async () => {
    const { PRESETS } = await import("../../src/presets.js");
    const { IDR1 } = await import("../../src/spec/registers.js");
    const words = Int32Array.of(PRESETS["mmu-700-like"].idr1);
    IDR1.SIDSIZE.set(words, 0, 5);
    const m = await machine({ preset: { ...PRESETS["mmu-700-like"], idr1: words[0] } });
    await expect(m.run(() => m.plug("0000:00:05.0"))).rejects.toMatchObject({ code: "ERANGE" });
  });
});
