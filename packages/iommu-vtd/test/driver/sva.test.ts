import {
  Access,
  AtsStatus,
  IommuError,
  IommuProt,
  iommuMap,
  iommuUnmap,
  type MmExitHandler,
  TranslationStatus,
} from "@iommukit/core";
import { describe, expect, it, vi } from "vitest";
import { Invalidation } from "../../src/driver/invalidation.js";
import { qemu11Q35, sapphireRapidsLike } from "../../src/presets.js";
import { PASID_ENTRY } from "../../src/spec/pasid-table.js";
import { SM_CONTEXT_ENTRY } from "../../src/spec/root-context.js";
import { type FunctionOptions, type Machine, machine, type PlayedDevice, withFields } from "./machine.js";

const { OK, FAULT } = TranslationStatus;

/** The PASID table entry of a device as it stands in memory, found through the last store to it in `body`'s trace. */
async function entryAfter(m: Machine, body: () => Promise<unknown>) {
  const records = await m.trace(body);
  const store = records.findLast((record) => record.name === "table:written" && record.table === PASID_ENTRY.name);
  if (store?.name !== "table:written") throw new Error("no PASID table entry was written");
  const base = store.address - (store.address & 63);
  return PASID_ENTRY.decode(Int32Array.from({ length: 16 }, (_, i) => m.platform.memory.load32(base + i * 4)));
}

function domainOf({ dev }: PlayedDevice) {
  const domain = dev.group?.domain;
  if (!domain) throw new Error("no default domain");
  return domain;
}

/** A process with one page, bound and present. */
async function bound(m: Machine, device: PlayedDevice, mmExit?: MmExitHandler) {
  const task = m.platform.kernel.spawn({ name: "worker" });
  const mm = task.mm as ReturnType<Machine["process"]>;
  const address = await mm.mmap({ length: 0x4000 });
  const pasid = await m.share(device, mm, 1, mmExit);
  await mm.write(address, Uint8Array.of(1, 2, 3, 4));
  return { task, mm, address, pasid };
}

describe("svaDeviceInit", () => {
  it("finds PASID and ATS on since the probe, and enables PRI; shutdown and release take it back (I4)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev, pci } = await m.plug();
      const state = () => [pci.pasid, pci.ats, pci.pri];
      expect(state()).toEqual([true, true, false]);
      await m.platform.sva.iommuSvaDeviceInit(dev, 1, 0);
      expect(state()).toEqual([true, true, true]);
      await m.platform.sva.iommuSvaDeviceShutdown(dev);
      expect(state()).toEqual([true, true, false]);
      await m.platform.sva.iommuSvaDeviceInit(dev, 0, 0);
      expect(state()).toEqual([true, true, false]);
      await m.platform.unplug(dev.name);
      expect(state()).toEqual([false, false, false]);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("names what keeps a unit in legacy mode, and nothing that the function has", async () => {
    const m = await machine({ mode: "legacy" });
    await m.run(async () => {
      const { dev } = await m.plug();
      await expect(m.platform.sva.iommuSvaDeviceInit(dev, 1, 0)).rejects.toThrow(
        /cannot share address spaces: the unit is kept in legacy mode$/,
      );
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("gives the credits back when the unit refuses the change of the context entry (L-16)", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev, pci } = await m.plug();
      const changed = vi.spyOn(Invalidation.prototype, "scalableContextChanged");
      for (let i = 0; i < 100; i++) {
        changed.mockRejectedValueOnce(new IommuError("EINVAL", "refused"));
        await expect(m.platform.sva.iommuSvaDeviceInit(dev, 1, 0)).rejects.toThrow("EINVAL");
      }
      changed.mockRestore();
      expect(pci.pri).toBe(false);
      await m.platform.sva.iommuSvaDeviceInit(dev, 1, 0);
      expect(pci.pri).toBe(true);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("tells the context entry", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev } = await m.plug();
      const records = await m.trace(() => m.platform.sva.iommuSvaDeviceInit(dev, 1, 0));
      const store = records.find((record) => record.name === "table:written" && record.table === SM_CONTEXT_ENTRY.name);
      if (store?.name !== "table:written") throw new Error("the context entry was not written");
      const words = Int32Array.from({ length: 8 }, (_, i) => m.platform.memory.load32(store.address + i * 4));
      expect(SM_CONTEXT_ENTRY.decode(words)).toMatchObject({
        P: true,
        DTE: true,
        PASIDE: true,
        PRE: true,
        RID_PASID: 0xffff,
      });
    });
  });

  it("leaves PASID 0 to processes where another PASID stands for requests without one (A3, D2)", async () => {
    const limits = async (preset: typeof sapphireRapidsLike, options?: FunctionOptions) => {
      const m = await machine({ preset });
      return m.run(async () => {
        const { dev } = await m.plug("0000:00:05.0", options);
        await m.platform.sva.iommuSvaDeviceInit(dev, 0, 0);
        return [dev.svaParam?.minPasid, dev.svaParam?.maxPasid];
      });
    };
    expect(await limits(sapphireRapidsLike)).toEqual([0, 0xfffe]);
    expect(await limits(withFields(sapphireRapidsLike, { ecap: { RPS: 0 } }))).toEqual([1, 0xffff]);
    expect(await limits(withFields(sapphireRapidsLike, { ecap: { PSS: 9 } }))).toEqual([0, 0x3fe]);
  });

  it.each<[string, Parameters<typeof withFields>[1], FunctionOptions, string]>([
    ["a unit without scalable mode", { ecap: { SMTS: 0 } }, {}, "ECAP.SMTS = 0"],
    ["a unit without page requests", { ecap: { PRS: 0 } }, {}, "ECAP.PRS = 0"],
    ["a function without PASID", {}, { without: ["pasid"] }, "the function has no PASID capability"],
    ["a function without ATS", {}, { without: ["ats"] }, "the function has no ATS capability"],
    ["a function without PRI", {}, { without: ["pri"] }, "the function has no PRI capability"],
    ["requests that are not page-aligned", {}, { pageAligned: false }, "not always page-aligned"],
  ])("refuses %s with ENODEV, and leaves PRI off (H29)", async (_what, fields, options, sentence) => {
    const m = await machine({ preset: withFields(sapphireRapidsLike, fields) });
    await m.run(async () => {
      const { dev, pci } = await m.plug("0000:00:05.0", options);
      const error = await m.platform.sva.iommuSvaDeviceInit(dev, 1, 0).catch((reason: IommuError) => reason);
      expect(error).toMatchObject({ code: "ENODEV", message: expect.stringContaining(sentence) });
      expect(pci.pri).toBe(false);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("says everything that a legacy unit lacks, in one line", async () => {
    const m = await machine({ preset: qemu11Q35 });
    await m.run(async () => {
      const { dev } = await m.plug();
      await expect(m.platform.sva.iommuSvaDeviceInit(dev, 1, 0)).rejects.toThrow(
        "0000:00:05.0 behind dmar0 cannot share address spaces: ECAP.SMTS = 0: no scalable mode, so no PASID tables; ECAP.FSTS = 0",
      );
    });
  });

  it("tells why PCI refused PASID or ATS when the function was probed", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev, pci } = await m.plug();
      await m.platform.unplug(dev.name);
      pci.writeConfig(0x106, 2, 0x8000);
      const [again] = await m.platform.plug({ name: "again", segment: 0, create: () => [pci] });
      await expect(m.platform.sva.iommuSvaDeviceInit(again, 1, 0)).rejects.toThrow(
        "PASID of 0000:00:05.0 cannot change while its ATS is enabled",
      );
    });
  });

  it("undoes what it did when PCI refuses PRI", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev, pci } = await m.plug();
      pci.writeConfig(0x114, 2, 1);
      await expect(m.platform.sva.iommuSvaDeviceInit(dev, 1, 0)).rejects.toThrow("EBUSY");
      pci.writeConfig(0x114, 2, 0);
      await m.platform.sva.iommuSvaDeviceInit(dev, 1, 0);
      expect(pci.pri).toBe(true);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});

describe("a process on a device", () => {
  it("is translated through its own page table, after a page request brought the page in", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x4000 });
      const pasid = await m.share(device, mm);
      const [status, completion] = m.ats(device, address, Access.READ | Access.WRITE, pasid);
      expect([status, completion.read, completion.write]).toEqual([AtsStatus.SUCCESS, false, false]);
      m.pageRequest(device, pasid, address, 7, { write: true });
      await m.platform.scheduler.idle();
      expect(device.pci.responses).toEqual([{ rid: device.dev.rid, pasid, prgi: 7, code: 0 }]);
      const [again, filled] = m.ats(device, address, Access.READ | Access.WRITE, pasid);
      expect([again, filled.read, filled.write]).toEqual([AtsStatus.SUCCESS, true, true]);
      expect(m.translate(device, address, Access.READ, pasid)[0]).toBe(OK);
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      await m.platform.sva.iommuSvaDeviceShutdown(device.dev);
    });
    expect(m.faults()).toEqual([]);
    expect(await m.platform.close()).toEqual([]);
  });

  it("has a first-stage entry with the page table's root, walked coherently", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const { root, levels } = mm.pageTable("x86-64");
      const entry = await entryAfter(m, () => m.share(device, mm));
      expect(entry).toMatchObject({ P: true, FPD: false, PGTT: "firstStage", DID: 1, PWSNP: true, SRE: false });
      expect(entry.FSPM).toBe(levels === 5 ? "fiveLevel" : "fourLevel");
      expect(BigInt(entry.FSPTPTR)).toBe(BigInt(root));
    });
  });

  it("loses a page everywhere before munmap returns (C2, I-1)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const { mm, address, pasid } = await bound(m, device);
      expect(m.translate(device, address, Access.READ, pasid)[0]).toBe(OK);
      device.pci.invalidations.length = 0;
      const seen = await m.descriptors(() => mm.munmap(address, 0x1000));
      expect(seen).toEqual(["p_iotlb_inv_dsc", "p_dev_tlb_inv_dsc"]);
      expect(device.pci.invalidations).toMatchObject([{ pasid, shift: 12 }]);
      expect(m.translate(device, address, Access.READ, pasid)[0]).toBe(FAULT);
    });
  });

  it("is invalidated whole, by PASID, when the range is the whole address space", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const { mm } = await bound(m, device);
      const ioMm = m.platform.sva.ioMmOf(mm);
      const domain = device.dev.group?.domain;
      if (!ioMm || !domain) throw new Error("not bound");
      device.pci.invalidations.length = 0;
      await m.ops.mmInvalidate(domain, device.dev, ioMm, 0n, 1n << 64n);
      expect(device.pci.invalidations).toMatchObject([{ shift: 64 }]);
      expect(await m.descriptors(() => m.ops.mmInvalidate(domain, device.dev, ioMm, 0n, 0n))).toEqual([]);
    });
  });

  it("exits while its DMA is in flight without a fault record; other processes go on (C10, L-9)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      let late: number[] = [];
      const { task, address, pasid } = await bound(m, device);
      const other = m.process("other");
      const there = await other.mmap({ length: 0x1000 });
      const second = await m.platform.sva.iommuSvaBindDevice(device.dev, other, 1);
      await other.write(there, Uint8Array.of(1));
      const off = m.platform.trace.on("mm:released", () => {
        late = [m.translate(device, address, Access.READ, pasid)[0]];
      });
      const records = await m.trace(() => task.exit());
      off();
      expect(late).toEqual([FAULT]);
      expect(m.translate(device, there, Access.READ, second)[0]).toBe(OK);
      const exitStores = records.filter((r) => r.name === "table:written" && r.table === PASID_ENTRY.name);
      expect(exitStores.length).toBeGreaterThan(0);
    });
    expect(m.faults()).toEqual([]);
  });

  it("keeps FPD in its entry after the exit, is drained when detached, and faults again when bound anew (S-10)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const { mm, address, pasid } = await bound(m, device);
      const ioMm = m.platform.sva.ioMmOf(mm);
      const domain = device.dev.group?.domain;
      if (!ioMm || !domain) throw new Error("not bound");
      const exited = await entryAfter(m, () => m.ops.mmExit(domain, device.dev, ioMm));
      expect(exited).toMatchObject({ P: false, FPD: true, PGTT: 0 });
      const detached = await m.descriptors(() => m.ops.mmDetach(domain, device.dev, ioMm));
      expect(detached).toEqual(["p_iotlb_inv_dsc", "p_dev_tlb_inv_dsc"]);
      expect(m.translate(device, address, Access.READ, pasid)[0]).toBe(FAULT);
      expect(m.faults()).toEqual([]);
      await m.ops.mmAttach(domain, device.dev, ioMm);
      expect(m.translate(device, address, Access.READ, pasid)[0]).toBe(OK);
      m.translate(device, address - 0x1000_0000n, Access.READ, pasid);
      expect(m.faults().at(-1)).toContain("SM: Present bit in first-level paging entry is clear");
    });
  });

  it("is refused when its page tables do not fit the unit (EOPNOTSUPP)", async () => {
    const m = await machine({ preset: withFields(sapphireRapidsLike, { cap: { FS1GP: 0 } }) });
    await m.run(async () => {
      const { dev } = await m.plug();
      const domain = dev.group?.domain;
      if (!domain) throw new Error("no domain");
      await expect(m.ops.mmAlloc(domain, m.process())).rejects.toThrow("EOPNOTSUPP");
    });
  });

  it("leaves no entry behind when the unit does not hear of it", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev } = await m.plug();
      await m.platform.sva.iommuSvaDeviceInit(dev, 1, 0);
      const mm = m.process();
      const created = vi.spyOn(Invalidation.prototype, "pasidEntryCreated");
      created.mockRejectedValueOnce(new IommuError("EINVAL", "refused"));
      const entry = await entryAfter(m, async () => {
        await expect(m.platform.sva.iommuSvaBindDevice(dev, mm, 1)).rejects.toThrow("EINVAL");
      });
      created.mockRestore();
      expect(entry).toMatchObject({ P: false, FSPTPTR: 0n });
      await m.platform.sva.iommuSvaBindDevice(dev, mm, 1);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("leaves nothing behind after many binds, exits and unbinds (L-21)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      await m.platform.sva.iommuSvaDeviceInit(device.dev, 1, 0);
      for (let i = 0; i < 20; i++) {
        const task = m.platform.kernel.spawn({ name: `w${i}` });
        if (!task.mm) throw new Error("no address space");
        const pasid = await m.platform.sva.iommuSvaBindDevice(device.dev, task.mm, 1);
        if (i % 2) await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
        await task.exit();
      }
      expect(m.platform.sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
    });
    expect(m.faults()).toEqual([]);
    expect(await m.platform.close()).toEqual([]);
  });
});

describe("detachDev", () => {
  it("unbinds the device's processes first", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const { address, pasid } = await bound(m, device);
      await m.platform.unplug(device.dev.name);
      expect(m.platform.sva.inUse().bonds).toBe(0);
      expect(m.translate(device, address, Access.READ, pasid)[0]).toBe(FAULT);
    });
  });
});

/** Nothing answers in a function that is being reset; whoever asked it would wait for a minute (I12, L-23). */
describe("a reset of a device", () => {
  it("finds it kept out and asked for nothing; its domain and its process are there again after it", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const { dev, pci } = device;
      const { groups, sva, scheduler } = m.platform;
      const mm = m.process();
      const address = await mm.mmap({ length: 0x2000, populate: true });
      const pasid = await m.share(device, mm);
      const domain = domainOf(device);
      await iommuMap(domain, 0n, 0x1_0800_0000, 0x2000n, IommuProt.READ);
      const seen = (page: bigint) => [
        m.translate(device, address + page * 0x1000n, Access.READ, pasid)[0],
        m.translate(device, page * 0x1000n, Access.READ)[0],
      ];
      expect([seen(0n), seen(1n)]).toEqual([
        [OK, OK],
        [OK, OK],
      ]);
      const forget = async (page: bigint) => {
        await mm.munmap(address + page * 0x1000n, 0x1000);
        await iommuUnmap(domain, page * 0x1000n, 0x1000n);
      };
      await groups.whileReset([dev], async (prepare) => {
        await prepare();
        pci.silent = true;
        const asked = pci.invalidations.length;
        const start = scheduler.now;
        expect(seen(0n)).toEqual([FAULT, FAULT]);
        await forget(0n);
        await expect(sva.iommuSvaBindDevice(dev, m.process("late"), 1)).rejects.toMatchObject({ code: "EBUSY" });
        expect(pci.invalidations).toHaveLength(asked);
        expect(scheduler.now - start).toBeLessThan(1e9);
        pci.silent = false;
      });
      expect([seen(0n), seen(1n)]).toEqual([
        [FAULT, FAULT],
        [OK, OK],
      ]);
      const asked = pci.invalidations.length;
      await forget(1n);
      expect(pci.invalidations.length).toBeGreaterThan(asked);
      expect(seen(1n)).toEqual([FAULT, FAULT]);
      await sva.iommuSvaDeviceShutdown(dev);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("does not end with the device that is pulled out of it", async () => {
    const m = await machine();
    await m.run(async () => {
      const { dev, pci } = await m.plug();
      const { groups } = m.platform;
      await groups.whileReset([dev], async (prepare) => {
        await prepare();
        pci.silent = true;
        await m.platform.unplug(dev.name);
      });
      const again = await m.plug();
      await iommuMap(domainOf(again), 0n, 0x1_0800_0000, 0x1000n, IommuProt.READ);
      expect(m.translate(again, 0n, Access.READ)[0]).toBe(OK);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});
