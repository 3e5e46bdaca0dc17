import { describe, expect, it } from "vitest";
import { Device, IommuError } from "../../src/index.js";
import { FakePciFunction } from "../../src/testing/index.js";
import { IOPF, machine } from "../sva/machine.js";

/** Functions of one device without ACS: one group. */
async function pair() {
  const m = machine();
  const add = async (fn: number) => {
    const name = `0000:01:00.${fn}`;
    const device = new Device(name, 0x100 + fn, new FakePciFunction(name, { config: { 14: 0x80 } }));
    device.iommu = m.iommu;
    await m.groups.add(device);
    return device;
  };
  return m.run(async () => {
    const [a, b] = [await add(0), await add(1)];
    const { group } = a;
    if (!group) throw new Error("no group");
    const domain = m.ops.domainAlloc("unmanaged", a);
    m.ops.calls.length = 0;
    return { ...m, a, b, group, domain, add };
  });
}

describe("iommu_group", () => {
  it("attaches the first device to a default domain and later ones to the group's (F7)", async () => {
    const { run, ops, group, groups, domain, add, a, b } = await pair();
    await run(async () => {
      expect(group.devices).toEqual([a, b]);
      expect(group.domain).toBe(group.defaultDomain);
      expect(group.domain?.type).toBe("dma");
      await groups.attachGroup(domain, group);
      ops.calls.length = 0;
      expect((await add(2)).group).toBe(group);
      expect(ops.calls).toEqual([`attachDev 0000:01:00.2 ${domain.id}`]);
    });
  });

  it("goes, and frees its default domain, with its last device", async () => {
    const { run, ops, groups, group, a, b } = await pair();
    await run(async () => {
      const id = group.defaultDomain?.id;
      await groups.remove(a);
      expect([...groups.all.values()]).toEqual([group]);
      await groups.remove(b);
      await groups.remove(b);
      expect(groups.all.size).toBe(0);
      expect(ops.calls).toEqual([`detachDev 0000:01:00.0 ${id}`, `detachDev 0000:01:00.1 ${id}`, `domainFree ${id}`]);
      expect([a.group, b.group]).toEqual([undefined, undefined]);
    });
  });

  it("does not keep a device that the driver refuses", async () => {
    const { run, ops, groups, newDevice } = machine();
    await run(async () => {
      for (const op of ["domainAlloc", "attachDev"] as const) {
        const device = newDevice("0000:03:00.0");
        ops.fail(op, "ENOMEM");
        await expect(groups.add(device)).rejects.toThrow("ENOMEM");
        expect(device.group).toBeUndefined();
        expect(groups.all.size).toBe(0);
      }
      expect(ops.calls.at(-1)).toMatch(/^domainFree/);
    });
  });

  it("refuses a device that is behind no IOMMU with ENODEV", async () => {
    const { run, groups } = machine();
    const device = new Device("0000:04:00.0", 0, new FakePciFunction("0000:04:00.0"));
    await run(() => expect(groups.add(device)).rejects.toThrow("ENODEV"));
  });
});

describe("iommu_attach_group", () => {
  it("moves every device, and detach moves every one back (F21) (F23)", async () => {
    const { run, ops, groups, group, domain } = await pair();
    await run(async () => {
      const home = group.defaultDomain?.id;
      await groups.attachGroup(domain, group);
      expect(group.domain).toBe(domain);
      await groups.detachGroup(domain, group);
      expect(group.domain).toBe(group.defaultDomain);
      expect(ops.calls).toEqual(
        [
          [home, domain.id],
          [domain.id, home],
        ].flatMap(([from, to]) =>
          [0, 1].flatMap((fn) => [`detachDev 0000:01:00.${fn} ${from}`, `attachDev 0000:01:00.${fn} ${to}`]),
        ),
      );
    });
  });

  it("puts back whom it can, and answers why, when a device refuses its old domain as well (F21)", async () => {
    const { run, ops, kernel, groups, group, domain } = await pair();
    await run(async () => {
      const attach = ops.attachDev.bind(ops);
      ops.attachDev = async (where, dev) => {
        if (dev.name.endsWith(".1")) ops.fail("attachDev", where === domain ? "EBUSY" : "EIO");
        return attach(where, dev);
      };
      await expect(groups.attachGroup(domain, group)).rejects.toThrow("EBUSY");
      const home = group.defaultDomain?.id;
      expect(ops.calls.slice(-2)).toEqual([`detachDev 0000:01:00.0 ${domain.id}`, `attachDev 0000:01:00.0 ${home}`]);
      expect(kernel.log).toEqual(["0000:01:00.1: attach_dev failed: EIO: attachDev was told to fail"]);
    });
  });

  it.each([0, 1])("puts everything back when device %i refuses (F21)", async (skip) => {
    const { run, ops, groups, group, domain } = await pair();
    await run(async () => {
      const attached = new Map<string, string | undefined>();
      for (const op of ["attachDev", "detachDev"] as const) {
        const original = ops[op].bind(ops);
        ops[op] = async (where, dev) => {
          await original(where, dev);
          attached.set(dev.name, op === "attachDev" ? where.type : undefined);
        };
      }
      ops.fail("attachDev", "EBUSY", skip);
      await expect(groups.attachGroup(domain, group)).rejects.toThrow("EBUSY");
      expect(group.domain).toBe(group.defaultDomain);
      for (const type of attached.values()) expect(type).toBe("dma");
    });
  });

  it("answers EBUSY in another unmanaged domain; detaching a domain that it is not in does nothing", async () => {
    const { run, ops, groups, group, domain, a } = await pair();
    await run(async () => {
      await groups.attachGroup(domain, group);
      const other = ops.domainAlloc("unmanaged", a);
      await expect(groups.attachGroup(other, group)).rejects.toThrow("EBUSY");
      await expect(groups.attachGroup(domain, group)).rejects.toThrow("EBUSY");
      await groups.detachGroup(other, group);
      expect(group.domain).toBe(domain);
    });
  });
});

describe("iommu_group_claim_dma_owner", () => {
  it("blocks all DMA until the owner attaches a domain, and between two (F5)", async () => {
    const { run, groups, group, domain } = await pair();
    await run(async () => {
      await groups.claimDmaOwner(group, "vfio");
      expect(group.domain).toBeUndefined();
      await groups.attachGroup(domain, group);
      await groups.detachGroup(domain, group);
      expect(group.domain).toBeUndefined();
      await groups.releaseDmaOwner(group);
      expect(group.domain).toBe(group.defaultDomain);
      expect(group.owner).toBeUndefined();
    });
  });

  it("answers EPERM while somebody owns it, EBUSY while another domain is attached (F5)", async () => {
    const { run, groups, group, domain } = await pair();
    await run(async () => {
      await groups.claimDmaOwner(group, "first");
      await expect(groups.claimDmaOwner(group, "second")).rejects.toThrow("EPERM");
      await groups.releaseDmaOwner(group);
      await groups.attachGroup(domain, group);
      await expect(groups.claimDmaOwner(group, "first")).rejects.toThrow("EBUSY");
      expect(group.owner).toBeUndefined();
    });
  });
});

describe("a group of several devices", () => {
  it("is refused for SVA, as its devices reach each other behind the IOMMU's back (A7) (I16)", async () => {
    const { run, sva, a, mm } = await pair();
    await run(async () => {
      await sva.iommuSvaDeviceInit(a, IOPF, 0);
      await expect(sva.iommuSvaBindDevice(a, mm(), IOPF)).rejects.toThrow("EINVAL");
      // The inner form leaves that decision to its caller.
      expect(await sva.bindDeviceLocked(a, mm(), IOPF)).toBe(1);
    });
  });

  it("does not care about siblings that have no SVA: each PASID-capable device is bound by itself (D6) (L-27)", async () => {
    const { run, sva, a, b, mm } = await pair();
    await run(async () => {
      await sva.iommuSvaDeviceInit(a, IOPF, 0);
      await sva.bindDeviceLocked(a, mm(), IOPF);
      expect(b.svaParam).toBeUndefined();
      await expect(sva.bindDeviceLocked(b, mm(), IOPF)).rejects.toThrow("EINVAL");
    });
  });
});

describe("pci_dev_reset_iommu_prepare and _done (I12, L-23)", () => {
  /** Offset 0x100: the ATS capability. */
  const WITH_ATS = { 256: 0x0f, 258: 1 };

  async function resettable(bugs: readonly string[] = []) {
    const m = machine(bugs);
    return m.run(async () => {
      const add = async (name: string, config: Record<number, number> = WITH_ATS) => {
        const device = new Device(name, 0, new FakePciFunction(name, { config }));
        device.iommu = m.iommu;
        const group = await m.groups.add(device);
        m.ops.calls.length = 0;
        return { device, group };
      };
      return { ...m, add };
    });
  }

  it("keep the device out from when it sends nothing more until the reset has ended, well or not", async () => {
    const { run, groups, ops, add } = await resettable();
    await run(async () => {
      const { device, group } = await add("0000:01:00.0");
      await groups.whileReset([device], async (prepare) => {
        expect(ops.calls).toEqual([]);
        await prepare();
        expect(group.resetting.has(device)).toBe(true);
        ops.calls.push("reset");
      });
      expect(ops.calls).toEqual(["resetPrepare 0000:01:00.0", "reset", "resetDone 0000:01:00.0"]);
      const failing = groups.whileReset([device], async (prepare) => {
        await prepare();
        throw new IommuError("ETIMEDOUT", "does not come back");
      });
      await expect(failing).rejects.toThrow("ETIMEDOUT");
      expect([group.resetting.size, ops.calls.at(-1)]).toEqual([0, "resetDone 0000:01:00.0"]);
    });
  });

  it("make attaching, binding, initialising and a second reset answer EBUSY meanwhile, and change nothing", async () => {
    const { run, groups, sva, ops, add, mm } = await resettable();
    await run(async () => {
      const { device, group } = await add("0000:01:00.0");
      const { device: other } = await add("0000:02:00.0");
      const domain = ops.domainAlloc("unmanaged", device);
      await sva.iommuSvaDeviceInit(device, IOPF, 0);
      const bound = mm();
      const pasid = await sva.bindDeviceLocked(device, bound, IOPF);
      await groups.whileReset([device, other], async (prepare) => {
        await prepare();
        const code = "EBUSY";
        await expect(groups.attachGroup(domain, group)).rejects.toMatchObject({ code });
        await expect(groups.claimDmaOwner(group, "vfio")).rejects.toMatchObject({ code });
        await expect(sva.bindDeviceLocked(device, mm(), IOPF)).rejects.toMatchObject({ code });
        await expect(sva.bindDeviceLocked(device, bound, IOPF)).rejects.toMatchObject({ code: "EEXIST" });
        await expect(sva.iommuSvaDeviceInit(other, IOPF, 0)).rejects.toMatchObject({ code });
        await expect(groups.whileReset([device], (again) => again())).rejects.toMatchObject({ code });
        // The refused reset has not ended the one that runs.
        expect(group.resetting.has(device)).toBe(true);
        expect(sva.ioMmWithPasid(pasid)?.mm).toBe(bound);
        expect(group.domain).toBe(group.defaultDomain);
        // A process may go at any time.
        await sva.unbindDeviceLocked(device, pasid);
      });
      await groups.attachGroup(domain, group);
    });
  });

  it("end for those that were prepared when the driver refuses a further one", async () => {
    const { run, groups, ops, add } = await resettable();
    await run(async () => {
      const one = await add("0000:01:00.0");
      const two = await add("0000:02:00.0");
      ops.fail("resetPrepare", "ETIMEDOUT", 1);
      await expect(groups.whileReset([one.device, two.device], (prepare) => prepare())).rejects.toThrow("ETIMEDOUT");
      expect(ops.calls.at(-1)).toBe("resetDone 0000:01:00.0");
      expect([one.group.resetting.size, two.group.resetting.size]).toEqual([0, 0]);
    });
  });

  it.each([
    ["a function without ATS", [], {}],
    ["a kernel that knows nothing of it", ["L-23"], WITH_ATS],
  ] as const)("do nothing for %s", async (_what, bugs, config) => {
    const { run, groups, ops, add } = await resettable(bugs);
    await run(async () => {
      const { device } = await add("0000:01:00.0", config);
      await groups.whileReset([device], (prepare) => prepare());
      expect(ops.calls).toEqual([]);
    });
  });
});
