import {
  Access,
  type AddressSpace,
  AtsStatus,
  IommuError,
  IommuProt,
  iommuMap,
  iommuUnmap,
  NO_PASID,
  PrgResponseCode,
  TranslationStatus,
} from "@iommukit/core";
import { describe, expect, it, vi } from "vitest";
import { Identifiers, MmContexts } from "../../src/driver/asid.js";
import { CommandQueue } from "../../src/driver/command-queue.js";
import { PRESETS } from "../../src/presets.js";
import { CD } from "../../src/spec/context-descriptor.js";
import { IDR0, IDR1 } from "../../src/spec/registers.js";
import { STE } from "../../src/spec/stream-table.js";
import { type Machine, machine, type PlayedDevice } from "./machine.js";

const { OK, FAULT } = TranslationStatus;
const { READ, WRITE } = Access;

function preset(edit: (idr0: Int32Array, idr1: Int32Array) => void) {
  const base = PRESETS["mmu-700-like"];
  const [idr0, idr1] = [Int32Array.of(base.idr0), Int32Array.of(base.idr1)];
  edit(idr0, idr1);
  return { ...base, idr0: idr0[0], idr1: idr1[0] };
}

/** The device's STE and the CD of a PASID, from the stores that the trace saw. */
function lastStores(records: readonly { name: string }[], table: string): Map<number, bigint> {
  const words = new Map<number, bigint>();
  for (const record of records as { name: string; table?: string; address?: number; value?: bigint }[]) {
    if (record.name === "table:written" && record.table === table)
      words.set(record.address as number, record.value as bigint);
  }
  return words;
}

describe("binding a process (A15)", () => {
  it("lets the device use the process's addresses, with faults on demand", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x4000 });
      const pasid = await m.share(device, mm);
      expect(device.pci.pri).toBe(true);
      // Nothing there yet: the device asks, the process's page comes, the device tries again.
      const [status, completion] = m.ats(device, address, WRITE, pasid);
      expect([status, completion.read, completion.write]).toEqual([AtsStatus.SUCCESS, false, false]);
      m.pageRequest(device, pasid, address, 7, { read: true, write: true });
      await m.platform.scheduler.idle();
      expect(device.pci.responses).toEqual([{ rid: device.dev.rid, pasid, prgi: 7, code: PrgResponseCode.SUCCESS }]);
      const [, page] = m.ats(device, address, WRITE, pasid);
      expect([page.read, page.write]).toEqual([true, true]);
      await mm.write(address, Uint8Array.of(1, 2, 3));
      const [translated, pa] = m.translate(device, address + 2n, READ, pasid);
      const byte = new Uint8Array(1);
      m.platform.memory.readBytes(pa, byte);
      expect([translated, byte[0]]).toEqual([OK, 3]);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("writes one valid CD and takes it away again", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const records = await m.trace(() => m.share(device, mm));
      // The domain's CD was written anew as well: it gave its ASID to the process.
      const word = [...lastStores(records, "CD").values()].findLast((value) => (value & 0x8000_0000n) !== 0n) ?? 0n;
      const cd = CD.decode(
        Int32Array.from({ length: 16 }, (_, i) => (i < 2 ? Number((word >> BigInt(32 * i)) & 0xffff_ffffn) | 0 : 0)),
      );
      expect(cd).toMatchObject({
        V: true,
        AA64: true,
        EPD0: false,
        EPD1: true,
        A: true,
        R: true,
        S: false,
        HA: true,
        HD: true,
        ASET: false,
        T0SZ: 16,
      });
      const commands = await m.commands(() => m.platform.sva.iommuSvaUnbindDevice(device.dev, 1));
      expect(commands.slice(-3)).toEqual(["CFGI_CD", "TLBI_NH_ASID", "ATC_INV"]);
      expect(m.translate(device, 0n, READ, 1)[0]).toBe(FAULT);
      await m.platform.scheduler.idle();
      expect(m.log().join("\n")).toContain("event 0x0a received:");
    });
  });

  it("invalidates what the process unmaps, IOTLB first, before the page is free (I-1, I-7)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x2000 });
      await mm.write(address, new Uint8Array(0x2000).fill(1));
      const pasid = await m.share(device, mm);
      expect(m.translate(device, address, READ, pasid)[0]).toBe(OK);
      const records = await m.trace(() => mm.munmap(address, 0x2000));
      const order = records.flatMap((record) =>
        record.name === "command:consumed" ? [record.command] : record.name === "page:freed" ? ["free"] : [],
      );
      expect(order.filter((name) => name !== "CMD_SYNC").slice(0, 3)).toEqual([
        "CMD_TLBI_NH_VA",
        "CMD_ATC_INV",
        "free",
      ]);
      expect(m.translate(device, address, READ, pasid)[0]).toBe(FAULT);
    });
  });

  it("answers a page that the process does not have with INVALID (E7)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const pasid = await m.share(device, m.process());
      m.pageRequest(device, pasid, 0x1000n, 3);
      await m.platform.scheduler.idle();
      expect(device.pci.responses).toMatchObject([{ prgi: 3, code: PrgResponseCode.INVALID_REQUEST }]);
    });
  });

  it("drops stop markers without an answer (E11)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const pasid = await m.share(device, m.process());
      m.pageRequest(device, pasid, 0n, 0, { read: false });
      await m.platform.scheduler.idle();
      expect(device.pci.responses).toEqual([]);
    });
  });

  it("goes on with the queue when an answer could not be sent", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const full = new IommuError("ETIMEDOUT", "the queue is full");
      const issue = vi.spyOn(CommandQueue.prototype, "issue").mockRejectedValueOnce(full);
      m.pageRequest(device, 5, 0x1000n, 3);
      await m.platform.scheduler.idle();
      issue.mockRestore();
      expect(m.log().at(-1)).toBe("smmuv3: priq failed: ETIMEDOUT: the queue is full");
      m.pageRequest(device, 5, 0x1000n, 4);
      await m.platform.scheduler.idle();
      expect(device.pci.responses).toMatchObject([{ prgi: 4 }]);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("answers requests of a device without a fault handler with INVALID, of an unknown stream with a failure (E14)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      m.pageRequest(device, 5, 0x1000n, 3);
      await m.platform.scheduler.idle();
      expect(device.pci.responses).toMatchObject([{ prgi: 3, pasid: 5, code: PrgResponseCode.INVALID_REQUEST }]);
      expect(m.log().slice(-2)).toEqual([
        "arm-smmu-v3 smmuv3: unexpected PRI request received:",
        "arm-smmu-v3 smmuv3: \tsid 0x00000028.0x00005: [3L] unprivileged R access at iova 0x0000000000001000",
      ]);
    });
  });

  it("throws away partial groups when the queue overflowed (S-14)", async () => {
    const m = await machine({ queueShift: 7 });
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x1000 });
      const pasid = await m.share(device, mm);
      for (let i = 0; i < 200; i++) m.pageRequest(device, pasid, address, 1, { last: false });
      await m.platform.scheduler.idle();
      expect(m.platform.sva.inUse().partials).toBe(0);
      expect(m.log()).toContain("arm-smmu-v3 smmuv3: PRIQ overflow detected -- requests lost");
      // The queue goes on afterwards.
      m.pageRequest(device, pasid, address, 2);
      await m.platform.scheduler.idle();
      expect(device.pci.responses.at(-1)).toMatchObject({ prgi: 2, code: PrgResponseCode.SUCCESS });
    });
  });
});

describe("process exit with DMA in flight (C9)", () => {
  const eventsAfterExit = async (variants: string[]) => {
    const m = await machine({ variants });
    return m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x1000 });
      await mm.write(address, Uint8Array.of(1));
      let seen: [number, number] = [0, 0];
      const recorded: string[] = [];
      const off = m.platform.trace.on("fault:recorded", ({ fault }) => void recorded.push(fault));
      const pasid = await m.share(device, mm, 1);
      // Between mm_exit and the detach, the device still sends.
      const mmDetach = m.ops.mmDetach.bind(m.ops);
      m.ops.mmDetach = (...args) => {
        seen = [m.translate(device, address, READ, pasid)[0], recorded.length];
        return mmDetach(...args);
      };
      await m.platform.kernel.tasks.values().next().value?.exit();
      off();
      return [...seen, recorded.join()];
    });
  };

  it("records no event: the CD stays valid until the detach", async () => {
    expect(await eventsAfterExit([])).toEqual([FAULT, 0, ""]);
  });

  it("floods with C_BAD_CD when the variant takes the CD away (L-9)", async () => {
    expect((await eventsAfterExit(["L-9"]))[2]).toBe("C_BAD_CD");
  });
});

describe("a device that nobody has told to stop (S-10)", () => {
  it("is refused once the PASID is free, so that it asks for no page, until the next process has the PASID (I-3)", async () => {
    const m = await machine();
    const records = await m.run(async () => {
      const device = await m.plug();
      const task = m.platform.kernel.spawn({ name: "first" });
      const address = await task.memory.mmap({ length: 0x1000, populate: true });
      const pasid = await m.share(device, task.memory);
      const records = await m.trace(async () => {
        await task.exit();
        expect(m.platform.sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
        // An answer without rights would be a reason to ask for the page.
        expect(m.ats(device, address, READ, pasid)[0]).toBe(AtsStatus.CA);
        expect(m.translate(device, address, READ, pasid)[0]).toBe(FAULT);
      });
      const identity = m.ops.domainAlloc("identity", device.dev);
      const domain = m.domainOf(device);
      await m.ops.attachDev(identity, device.dev);
      await m.ops.attachDev(domain, device.dev);
      m.ops.domainFree(identity);
      const next = m.process("next");
      const at = await next.mmap({ length: 0x1000, populate: true });
      expect(await m.platform.sva.iommuSvaBindDevice(device.dev, next, 1)).toBe(pasid);
      expect(m.translate(device, at, READ, pasid)[0]).toBe(OK);
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      return records;
    });
    expect(records.filter(({ name }) => name === "fault:recorded")).toMatchObject([{ fault: "C_BAD_CD" }]);
    expect(await m.platform.close()).toEqual([]);
  });
});

describe("a bind that fails half-way", () => {
  it("leaves no CD behind when the command queue is stuck after it was written", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x1000, populate: true });
      const pasid = await m.share(device, mm);
      await m.platform.sva.iommuSvaUnbindDevice(device.dev, pasid);
      // Everything but CD.V is in memory after the first, CD.V after the second.
      const issueSync = vi.spyOn(CommandQueue.prototype, "issueSync");
      issueSync
        .mockResolvedValueOnce(undefined)
        .mockRejectedValueOnce(new IommuError("ETIMEDOUT", "the queue is full"));
      await expect(m.platform.sva.iommuSvaBindDevice(device.dev, mm, 1)).rejects.toThrow("ETIMEDOUT");
      issueSync.mockRestore();
      expect(m.translate(device, address, READ, pasid)[0]).toBe(FAULT);
      expect(await m.platform.sva.iommuSvaBindDevice(device.dev, mm, 1)).toBe(pasid);
      expect(m.translate(device, address, READ, pasid)[0]).toBe(OK);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("leaves the ASID to the domain that has it when there is no other, and pins none", async () => {
    const m = await machine({ cpuAsidBits: 8 });
    await m.run(async () => {
      const device = await m.plug();
      await m.platform.sva.iommuSvaDeviceInit(device.dev, 1, 0);
      const domain = m.domainOf(device) as unknown as { tag: number };
      const alloc = vi.spyOn(Identifiers.prototype, "alloc");
      alloc
        .mockImplementationOnce(() => domain.tag)
        .mockImplementationOnce(() => {
          throw new IommuError("ENOSPC", "all ASIDs are in use");
        });
      await expect(m.platform.sva.iommuSvaBindDevice(device.dev, m.process(), 1)).rejects.toThrow("ENOSPC");
      alloc.mockRestore();
      expect(MmContexts.of(m.platform.kernel, 8).pinned).toBe(0);
      m.ops.map(m.domainOf(device), 0x1000n, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
      expect(m.translate(device, 0x1000n, READ)[0]).toBe(OK);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});

describe("PASIDs and ASIDs", () => {
  it("moves a DMA domain to another ASID when a process comes with its own (B12)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const domain = m.domainOf(device);
      m.ops.map(domain, 0x1000n, 0x1_0800_0000, 0x1000, 1, IommuProt.READ);
      expect(m.translate(device, 0x1000n, READ)[0]).toBe(OK);
      // Both allocators start at 1.
      // What the domain left under its old ASID goes before the process uses that.
      expect(await m.commands(() => m.share(device, m.process()))).toContain("TLBI_NH_ASID");
      expect((domain as unknown as { tag: number }).tag).toBe(2);
      expect(m.translate(device, 0x1000n, READ)[0]).toBe(OK);
      await m.unmap(domain, 0x1000n, 0x1000, 1);
      expect(m.translate(device, 0x1000n, READ)[0]).toBe(FAULT);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("pins one ASID per address space, and no more than the CPUs can spare", () => {
    const contexts = new MmContexts(8, 4);
    const mm = (id: number) => ({ owner: `pid ${id}` }) as never;
    const first = mm(1);
    expect(contexts.get(first)).toBe(contexts.get(first));
    for (let id = 2; id <= 250; id++) contexts.get(mm(id));
    expect(contexts.limit).toBe(250);
    expect(() => contexts.get(mm(251))).toThrow("ENOSPC");
    contexts.put(first);
    contexts.put(first);
    expect(contexts.get(mm(252))).toBe(1);
  });

  it("give the ASID back when the process goes, while its address space still exists (L-4)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const task = m.platform.kernel.spawn({ name: "worker" });
      const contexts = MmContexts.of(m.platform.kernel, 16);
      await m.share(device, task.mm as AddressSpace);
      expect(contexts.pinned).toBe(1);
      await task.exit();
      // mm_free runs when no notifier can be running any more.
      await m.platform.scheduler.sleep(1_000_000_000);
      expect(contexts.pinned).toBe(0);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("reaches PASIDs of every level-2 table (G15)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug("0000:00:05.0", { pasidBits: 16 });
      const mm = m.process();
      const address = await mm.mmap({ length: 0x1000 });
      await mm.write(address, Uint8Array.of(9));
      await m.platform.sva.iommuSvaDeviceInit(device.dev, 1, 0);
      const { svaParam } = device.dev;
      expect([svaParam?.minPasid, svaParam?.maxPasid]).toEqual([1, 0xffff]);
      if (svaParam) svaParam.minPasid = 0x7001;
      const pasid = await m.platform.sva.iommuSvaBindDevice(device.dev, mm, 1);
      expect(pasid).toBe(0x7001);
      expect(m.translate(device, address, READ, pasid)[0]).toBe(OK);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("is one process on two devices: each has a CD, both hear invalidations", async () => {
    const m = await machine();
    await m.run(async () => {
      const devices: PlayedDevice[] = [await m.plug("0000:00:05.0"), await m.plug("0000:00:06.0")];
      const mm = m.process();
      const address = await mm.mmap({ length: 0x1000 });
      await mm.write(address, Uint8Array.of(9));
      const pasids = [await m.share(devices[0], mm), await m.share(devices[1], mm)];
      expect(pasids[0]).toBe(pasids[1]);
      for (const device of devices) expect(m.translate(device, address, READ, pasids[0])[0]).toBe(OK);
      await mm.munmap(address, 0x1000);
      for (const device of devices) {
        expect(m.translate(device, address, READ, pasids[0])[0]).toBe(FAULT);
        expect(device.pci.invalidations.at(-1)).toMatchObject({ pasid: pasids[0] });
      }
    });
    expect(await m.platform.close()).toEqual([]);
  });
});

describe("svaDeviceInit", () => {
  const refusal = async (m: Machine, options: Parameters<Machine["plug"]>[1] = {}) =>
    m.run(async () => {
      const { dev } = await m.plug("0000:00:05.0", options);
      try {
        await m.platform.sva.iommuSvaDeviceInit(dev, 1, 0);
      } catch (error) {
        return (error as Error).message;
      }
      return "accepted";
    });

  it("refuses what device or SMMU lack, with the reason", async () => {
    expect(await refusal(await machine(), { without: ["pasid"] })).toContain(
      "EINVAL: 0000:00:05.0 and its SMMU share no bit of PASID",
    );
    expect(await refusal(await machine(), { without: ["pri"] })).toContain("EINVAL: 0000:00:05.0 has no PRI");
    expect(await refusal(await machine(), { without: ["ats"] })).toContain(
      "EINVAL: 0000:00:05.0 has no PRI without ATS",
    );
    const noPri = await machine({
      preset: preset((idr0, idr1) => [IDR0.PRI.set(idr0, 0, 0), IDR1.PRIQS.set(idr1, 0, 0)]),
    });
    expect(await refusal(noPri)).toContain("IDR0.PRI is 0");
    expect(await refusal(await machine({ preset: preset((idr0) => IDR0.COHACC.set(idr0, 0, 0)) }))).toContain(
      "IDR0.COHACC is 0",
    );
    expect(await refusal(await machine({ preset: preset((idr0) => IDR0.ASID16.set(idr0, 0, 0)) }))).toContain(
      "IDR0.ASID16 is 0",
    );
  });

  it("gives page request credits that the queue can hold, and takes them back (L-16)", async () => {
    const m = await machine({ queueShift: 7 });
    await m.run(async () => {
      const one = await m.plug("0000:00:05.0", { credits: 48 });
      const two = await m.plug("0000:00:06.0");
      await m.platform.sva.iommuSvaDeviceInit(one.dev, 1, 0);
      await m.platform.sva.iommuSvaDeviceInit(two.dev, 1, 0);
      expect(one.pci.readConfig(0x11c, 4)).toBe(48);
      expect(two.pci.readConfig(0x11c, 4)).toBe(16);
      await m.platform.sva.iommuSvaDeviceShutdown(one.dev);
      expect(one.pci.pri).toBe(false);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("has STE.PPAR set before page requests are possible (S-12)", async () => {
    const ppar = async (options: { responsesWithPasid: boolean }, variants: string[] = []) => {
      const m = await machine({ variants });
      return m.run(async () => {
        const records = await m.trace(() => m.plug("0000:00:05.0", options));
        const stores = [...lastStores(records, "STE")];
        const second = stores.find(([address]) => address % 64 === 8)?.[1] ?? 0n;
        return (second >> BigInt(STE.PPAR.lsb - 64)) & 1n;
      });
    };
    expect(await ppar({ responsesWithPasid: true })).toBe(1n);
    expect(await ppar({ responsesWithPasid: false })).toBe(0n);
    expect(await ppar({ responsesWithPasid: true }, ["S-12"])).toBe(0n);
  });

  it("keeps a device with bound processes in a domain of stage 1 (EBUSY)", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      const mm = m.process();
      const address = await mm.mmap({ length: 0x1000 });
      await mm.write(address, Uint8Array.of(1));
      const pasid = await m.share(device, mm);
      const identity = m.ops.domainAlloc("identity", device.dev);
      await expect(m.ops.attachDev(identity, device.dev)).rejects.toMatchObject({ code: "EBUSY" });
      expect(m.translate(device, address, READ, pasid)[0]).toBe(OK);
    });
  });

  it("detaching the domain removes the bonds first", async () => {
    const m = await machine();
    await m.run(async () => {
      const device = await m.plug();
      await m.share(device, m.process());
      await m.ops.detachDev(m.domainOf(device), device.dev);
      expect(m.platform.sva.inUse().bonds).toBe(0);
      expect(device.pci.ats).toBe(false);
      expect(m.translate(device, 0n, READ, NO_PASID)[0]).toBe(FAULT);
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
      const domain = m.domainOf(device);
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
      await iommuMap(m.domainOf(again), 0n, 0x1_0800_0000, 0x1000n, IommuProt.READ);
      expect(m.translate(again, 0n, Access.READ)[0]).toBe(OK);
    });
    expect(await m.platform.close()).toEqual([]);
  });
});
