/** The SVA core on a simulated process: device faults bring its pages in, and what it takes away reaches every bond first. */
import { describe, expect, it } from "vitest";
import {
  type AddressSpace,
  AddressSpaces,
  createPlatform,
  type DevicePlugin,
  FaultPerm,
  IOMMU_SVA_FEAT_IOPF,
  type MmapOptions,
  type TraceRecord,
} from "../../src/index.js";
import { type FakeIommuOps, FakePciFunction, fakeIommu } from "../../src/testing/index.js";

const { READ, WRITE, EXEC } = FaultPerm;
const PAGE = 4096;
const card = (bdf: string): DevicePlugin => ({ name: bdf, segment: 0, create: () => [new FakePciFunction(bdf)] });

/** A process that is bound to two devices. `run` ends with the leak check. */
async function bound(body: (m: Awaited<ReturnType<typeof setup>>) => Promise<void>, variants: readonly string[] = []) {
  const m = await setup(variants);
  await m.platform.run(() => body(m));
  m.unsubscribe();
  expect(await m.platform.close()).toEqual([]);
}

async function setup(variants: readonly string[]) {
  const platform = await createPlatform({
    iommus: [fakeIommu],
    devices: [card("0000:01:00.0"), card("0000:02:00.0")],
    variants,
  });
  const { sva } = platform;
  const ops = platform.iommus[0].ops as FakeIommuOps;
  const task = platform.kernel.spawn();
  const mm = task.mm as AddressSpace;
  const devices = [...platform.devices.values()];
  let pasid = 0;
  await platform.run(async () => {
    for (const dev of devices) {
      await sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
      pasid = await sva.iommuSvaBindDevice(dev, mm, IOMMU_SVA_FEAT_IOPF);
    }
  });
  const events: TraceRecord[] = [];
  const unsubscribe = platform.trace.subscribe((record) => {
    if (!record.name.startsWith("lock:")) events.push(record);
  });
  let grpid = 0;
  /** One page request, and its answer. */
  const fault = async (address: bigint, perm: number) => {
    const id = grpid++;
    sva.report(devices[0], { pasid, grpid: id, address, perm, last: true, responseNeedsPasid: true });
    await sva.flushDevice(devices[0], pasid);
    return ops.responses.find((response) => response.grpid === id)?.code;
  };
  const invalidations = async (what: () => Promise<unknown>) => {
    ops.calls.length = 0;
    await what();
    return ops.calls
      .filter((call) => call.startsWith("mmInvalidate"))
      .map((call) => call.slice("mmInvalidate ".length));
  };
  return { platform, sva, ops, task, mm, devices, pasid, events, unsubscribe, fault, invalidations };
}

describe("device fault in a process", () => {
  interface Row {
    readonly what: string;
    readonly code: string;
    readonly perm: number;
    readonly map?: Partial<MmapOptions>;
    /** Bytes of the file that is mapped. */
    readonly file?: number;
  }
  const rows: readonly Row[] = [
    { what: "reads anonymous memory", perm: READ, code: "success" },
    { what: "writes anonymous memory", perm: READ | WRITE, code: "success" },
    { what: "writes read-only memory", map: { prot: "r" }, perm: WRITE, code: "invalid" },
    { what: "reads a guard page", map: { prot: "none" }, perm: READ, code: "invalid" },
    { what: "executes code", map: { prot: "rx" }, perm: READ | EXEC, code: "success" },
    { what: "executes data", perm: EXEC, code: "invalid" },
    { what: "reads a shared file", map: { prot: "r", shared: true }, perm: READ, file: PAGE, code: "success" },
    { what: "writes a shared file", map: { shared: true }, perm: WRITE, file: PAGE, code: "success" },
    { what: "writes a private file", perm: WRITE, file: PAGE, code: "success" },
    { what: "reads beyond the end of a file", perm: READ, file: 0, code: "invalid" },
  ];
  it.each(rows)("$what: $code (E7)", async ({ map, file, perm, code }) => {
    await bound(async ({ mm, platform, fault }) => {
      const data = file === undefined ? undefined : platform.resolve(AddressSpaces).createFile("data", file);
      const at = await mm.mmap({ length: PAGE, file: data, ...map });
      expect(await fault(at, perm)).toBe(code);
      data?.close();
    });
  });

  it("that asks for no right shows it no page of a mapping without any (E7)", async () => {
    await bound(async ({ mm, sva, devices, pasid, fault }) => {
      const at = await mm.mmap({ length: PAGE, prot: "none" });
      sva.report(devices[0], { pasid, grpid: 99, address: at, perm: 0, last: false, responseNeedsPasid: true });
      sva.report(devices[0], { pasid, grpid: 99, address: at, perm: READ, last: true, responseNeedsPasid: true });
      await sva.flushDevice(devices[0], pasid);
      expect(mm.pageTable("x86-64").lookup(at)).toBeUndefined();
      expect(await mm.read(at, new Uint8Array(1))).toBe(0);
      await mm.mprotect(at, PAGE, "r");
      expect(await fault(at, READ)).toBe("success");
    });
  });

  it("is answered INVALID where nothing is mapped, and after munmap (E7)", async () => {
    await bound(async ({ mm, fault }) => {
      const at = await mm.mmap({ length: PAGE });
      expect(await fault(at, READ)).toBe("success");
      await mm.munmap(at, PAGE);
      expect(await fault(at, READ)).toBe("invalid");
    });
  });

  it.each([
    { variants: [], code: "invalid" },
    { variants: ["S-17"], code: "success" },
  ])(
    "below a stack, with variants $variants: $code; a CPU's access grows it (E7) (S-17)",
    async ({ variants, code }) => {
      await bound(async ({ mm, fault }) => {
        const top = await mm.mmap({ length: PAGE, growsDown: true, name: "[stack]" });
        expect(await fault(top - BigInt(PAGE), READ | WRITE)).toBe(code);
        expect(await mm.write(top - BigInt(2 * PAGE), Uint8Array.of(1))).toBe(1);
        expect(await fault(top - BigInt(2 * PAGE), READ | WRITE)).toBe("success");
      }, variants);
    },
  );

  it("on a page that a child shares breaks the sharing, and every bond forgets the old page (C2) (C3)", async () => {
    await bound(async ({ mm, task, fault, invalidations }) => {
      const at = await mm.mmap({ length: PAGE, populate: true });
      const child = await task.fork();
      const seen = await invalidations(() => fault(at, READ | WRITE));
      const page = `1 0x${at.toString(16)} 0x1000`;
      expect(new Set(seen)).toEqual(new Set([`0000:01:00.0 ${page}`, `0000:02:00.0 ${page}`]));
      await child.exit();
    });
  });
});

describe("what a process takes away", () => {
  it.each(["munmap", "mprotect", "madvise"] as const)(
    "by %s reaches every bond before a page is free (C2) (I-1) (I-7)",
    async (call) => {
      await bound(async ({ mm, ops, events, fault, invalidations }) => {
        const at = await mm.mmap({ length: 2 * PAGE, populate: true });
        expect(await fault(at, READ | WRITE)).toBe("success");
        events.length = 0;
        let freedBefore = 0;
        const invalidate = ops.mmInvalidate.bind(ops);
        ops.mmInvalidate = (...args) => {
          freedBefore += events.filter(({ name }) => name === "page:freed").length;
          return invalidate(...args);
        };
        const seen = await invalidations(async () => {
          if (call === "munmap") await mm.munmap(at, 2 * PAGE);
          else if (call === "mprotect") await mm.mprotect(at, 2 * PAGE, "r");
          else await mm.madvise(at, 2 * PAGE, "dontneed");
        });
        const range = `1 0x${at.toString(16)} 0x2000`;
        expect(seen).toEqual([`0000:01:00.0 ${range}`, `0000:02:00.0 ${range}`]);
        expect(freedBefore).toBe(0);
      });
    },
  );

  it("with its exit goes after the last bond (C4) (I-1)", async () => {
    await bound(async ({ mm, task, events }) => {
      const at = await mm.mmap({ length: 4 * PAGE, populate: true });
      await mm.write(at, Uint8Array.of(1));
      events.length = 0;
      await task.exit();
      const order = events.map(({ name }) => name).filter((name) => /bond:removed|page:freed|mm:released/.test(name));
      expect(order.slice(0, 2)).toEqual(["bond:removed", "bond:removed"]);
      expect(order.filter((name) => name === "page:freed").length).toBeGreaterThan(0);
    });
  });
});

describe("many processes and devices", () => {
  it("leave nothing behind when they go in any order (I-3) (L-21)", async () => {
    const bdfs = Array.from({ length: 16 }, (_, i) => `0000:${(i + 1).toString(16).padStart(2, "0")}:00.0`);
    const platform = await createPlatform({ iommus: [fakeIommu], devices: bdfs.map(card) });
    const { sva, kernel } = platform;
    await platform.run(async () => {
      for (const dev of platform.devices.values())
        await sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
      const tasks = Array.from({ length: 300 }, () => kernel.spawn());
      const pasids = new Set<number>();
      for (const dev of platform.devices.values()) {
        for (const { mm } of tasks) if (mm) pasids.add(await sva.bindDeviceLocked(dev, mm, IOMMU_SVA_FEAT_IOPF));
      }
      expect(pasids.size).toBe(300);
      expect(sva.inUse()).toEqual({ bonds: 4800, pasids: 300, partials: 0 });
      for (const [i, task] of tasks.entries()) {
        const other = tasks[(i * 7919) % 300];
        if (i % 3 === 0) await task.exit();
        else if (other.mm)
          for (const { device } of [...(sva.ioMmOf(other.mm)?.devices ?? [])]) await sva.unbindDeviceAll(device);
      }
    });
    expect(await platform.close()).toEqual([]);
  });
});
