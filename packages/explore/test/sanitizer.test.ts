/** Each checker fires on what breaks its rule, and is silent on what keeps it. The events are made by hand. */
import {
  type AddressSpace,
  bit,
  createPlatform,
  type EntryKind,
  layout,
  type Platform,
  reserved,
  type TraceEvents,
  type TraceName,
} from "@iommukit/core";
import { FakePciFunction, fakeIommu } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { ExploringScheduler, Sanitizer, VersionedMemory } from "../src/index.js";

const BDF = "0000:01:00.0";
const RAM = [{ base: 0x1_0000_0000, size: 0x100_0000 }];

/** An entry of 16 bytes that two caches hold, and the device's ATC where it says so. */
const ENTRY = layout(
  { name: "Entry", bits: 128, spec: "none", summary: "Of a unit that nobody builds." },
  { V: bit(0, "valid"), ATS: bit(1, "ATS"), R0: reserved(127, 2) },
);
const ENTRIES: readonly EntryKind[] = [
  {
    layout: ENTRY,
    cachedBy: (words) => ["config", "iotlb", ...(ENTRY.ATS.decode(words) ? ["ATC"] : [])],
    rule: "its manual",
  },
];

interface Stage {
  readonly platform: Platform;
  readonly memory: VersionedMemory;
  readonly scheduler: ExploringScheduler;
  readonly emit: <K extends TraceName>(name: K, event: TraceEvents[K]) => void;
  /** What the next choices of the memory are; then always now. */
  readonly choices: number[];
}

/** What the sanitizer says of events. */
async function said(play: (stage: Stage) => Promise<void> | void): Promise<string[]> {
  const scheduler = new ExploringScheduler();
  const stage = { choices: [] as number[] } as { -readonly [K in keyof Stage]: Stage[K] };
  const memory = new VersionedMemory(RAM, () => stage.choices.shift() ?? 0);
  const plugin = { name: "fake", segment: 0, create: () => [new FakePciFunction(BDF)] };
  const platform = await createPlatform({
    scheduler,
    memory,
    iommus: [fakeIommu],
    devices: [plugin],
  });
  Object.assign(stage, { platform, memory, scheduler });
  Object.assign(platform.iommus[0], { entries: ENTRIES });
  stage.emit = (name, event) => platform.trace.emit(name, event);
  const sanitizer = new Sanitizer(platform, scheduler);
  sanitizer.begin();
  await platform.run(async () => play(stage));
  return sanitizer.end(true).map(({ rule, what }) => `${rule}: ${what}`);
}

const moved = (pa: number, pasid = -1, address = 0x5000n) =>
  ({ device: BDF, rid: 0x100, pasid, address, pa, length: 8, write: true }) as const;
const page = (address: number) => ({ address, pages: 1, owner: "pid 7 anon" }) as const;
const request = (last: boolean) =>
  ({ unit: BDF, rid: 0x100, pasid: 5, address: 0x1000n, prgi: 3, last, access: 1 }) as const;
const answer = { unit: "fake", rid: 0x100, pasid: 5, prgi: 3, code: "success" } as const;
const lock = (name: string, thread: string, kind: "mutex" | "spin" = "mutex") =>
  ({ lock: name, kind, thread }) as const;

describe("I-1, freed memory", () => {
  it("is used by a device, and by a walk", async () => {
    const wrongs = await said(({ emit }) => {
      emit("page:allocated", page(0x1000));
      emit("page:freed", page(0x1000));
      emit("dma:moved", moved(0x1008));
      emit("table:read", { unit: "fake", table: "L3", index: 1, address: 0x1010, value: 0n });
    });
    expect(wrongs).toEqual([
      expect.stringMatching(/^I-1: .*wrote 8 bytes/),
      expect.stringMatching(/^I-1: fake read L3/),
    ]);
  });

  it("may be used again by its next owner", async () => {
    const wrongs = await said(({ emit }) => {
      emit("page:freed", page(0x1000));
      emit("page:allocated", page(0x1000));
      emit("dma:moved", moved(0x1008));
    });
    expect(wrongs).toEqual([]);
  });

  it("is an mm_struct that somebody still looks at", async () => {
    const wrongs = await said(async ({ platform }) => {
      const task = platform.kernel.spawn();
      const mm = task.memory;
      await task.exit();
      expect(mm.mmgetNotZero()).toBe(false);
    });
    expect(wrongs).toEqual([expect.stringMatching(/^freed: the mm_struct/)]);
  });
});

describe("freed objects", () => {
  it("say so themselves, in the kernel's log, which is otherwise read by nobody", async () => {
    const wrongs = await said(({ platform }) => {
      platform.kernel.printk("BUG: KASAN: use-after-free of a bond");
      platform.kernel.printk("WARNING: a bug of no consequence");
    });
    expect(wrongs).toEqual(["freed: BUG: KASAN: use-after-free of a bond"]);
  });
});

describe("I-1, translations of a process", () => {
  const bound = async ({ platform }: Stage) => {
    const device = platform.device(BDF);
    const mm: AddressSpace = platform.kernel.spawn().memory;
    const at = await mm.mmap({ length: 4096, populate: true });
    await platform.sva.iommuSvaDeviceInit(device, 0, 0);
    const pasid = await platform.sva.iommuSvaBindDevice(device, mm, 0);
    const pa = mm.mappings.pages.get(Number(at / 4096n))?.pa ?? 0;
    const leave = async () => {
      await platform.sva.iommuSvaDeviceShutdown(device);
      for (const task of platform.kernel.tasks.values()) await task.exit();
      await platform.scheduler.idle();
    };
    return { mm, at, pasid, pa, leave };
  };

  it("lead elsewhere, or to what is unmapped", async () => {
    const wrongs = await said(async (stage) => {
      const { at, pasid, pa, leave } = await bound(stage);
      stage.emit("dma:moved", moved(pa + 4096, pasid, at));
      stage.emit("dma:moved", moved(pa, pasid, at + 4096n));
      await leave();
    });
    expect(wrongs).toEqual([
      expect.stringMatching(/I-1: .*its page is/),
      expect.stringMatching(/I-1: .*nothing is mapped/),
    ]);
  });

  it("may be old while the change is under way", async () => {
    const wrongs = await said(async (stage) => {
      const { mm, at, pasid, pa, leave } = await bound(stage);
      stage.emit("dma:moved", moved(pa, pasid, at));
      stage.emit("mm:unmapped", { mm: mm.id, start: at, end: at + 4096n });
      stage.emit("dma:moved", moved(pa + 4096, pasid, at));
      stage.emit("mm:notified", { mm: mm.id, start: at, end: at + 4096n });
      await leave();
    });
    expect(wrongs).toEqual([]);
  });
});

describe("I-1, translations of a domain", () => {
  const attached = ({ platform, emit }: Stage) => {
    const { group, name } = platform.device(BDF);
    const domain = group?.domain;
    if (!domain) throw new Error("no domain");
    emit("domain:attached", { unit: "fake", device: name, domain: domain.id });
    return domain.id;
  };

  it("are used after the unmap was synchronised", async () => {
    const wrongs = await said((stage) => {
      const domain = attached(stage);
      stage.emit("iommu:mapped", { unit: "fake", domain, iova: 0x5000n, pa: 0x9000, size: 4096 });
      stage.emit("iommu:unmapped", { unit: "fake", domain, iova: 0x5000n, size: 4096 });
      stage.emit("dma:moved", moved(0x9000));
      stage.emit("iommu:synced", { unit: "fake", domain, start: 0x5000n, end: 0x5fffn });
      stage.emit("dma:moved", moved(0x9000));
    });
    expect(wrongs).toEqual([expect.stringMatching(/I-1: .*maps nothing there/)]);
  });

  it("may be used until then", async () => {
    const wrongs = await said((stage) => {
      const domain = attached(stage);
      stage.emit("iommu:mapped", { unit: "fake", domain, iova: 0x5000n, pa: 0x9000, size: 4096 });
      stage.emit("iommu:unmapped", { unit: "fake", domain, iova: 0x5000n, size: 4096 });
      stage.emit("dma:moved", moved(0x9000));
    });
    expect(wrongs).toEqual([]);
  });
});

describe("I-2, page responses", () => {
  it("are missing, are sent twice, or go to a request that was not the last", async () => {
    expect(await said(({ emit }) => emit("pri:requested", request(true)))).toEqual([
      "I-2: requester 0x100 PASID 5 group 3 was never answered",
    ]);
    const twice = await said(({ emit }) => {
      emit("pri:requested", request(true));
      emit("pri:answered", answer);
      emit("pri:answered", answer);
    });
    expect(twice).toEqual([expect.stringMatching(/^I-2: a response to requester 0x100 PASID 5 group 3/)]);
    const partial = await said(({ emit }) => {
      emit("pri:requested", request(false));
      emit("pri:answered", answer);
    });
    expect(partial).toEqual([expect.stringMatching(/^I-2/)]);
  });

  it("lack the PASID of the request that waits", async () => {
    const wrongs = await said(({ emit }) => {
      emit("pri:requested", { ...request(true), prgi: 4 });
      emit("pri:requested", request(true));
      emit("pri:answered", { ...answer, pasid: 7 });
      emit("device:reset", { device: BDF, rid: 0x100, kind: "function" });
    });
    expect(wrongs).toEqual([
      "I-2: a response to requester 0x100 PASID 7 group 3, which does not wait for one; what waits is requester 0x100 PASID 5 group 3",
    ]);
  });

  it("come once for each group, and never for a device that was reset", async () => {
    const wrongs = await said(({ emit }) => {
      emit("pri:requested", request(false));
      emit("pri:requested", request(true));
      emit("pri:answered", answer);
      emit("pri:requested", request(true));
      emit("device:reset", { device: BDF, rid: 0x100, kind: "function" });
    });
    expect(wrongs).toEqual([]);
  });
});

describe("I-3, a PASID", () => {
  it("is free while a request, a stall or a bond has it", async () => {
    const wrongs = await said(({ emit }) => {
      emit("bond:created", { device: BDF, pasid: 5, mm: 1 });
      emit("pri:requested", request(true));
      emit("stall:opened", { unit: "fake", rid: 0x100, pasid: 5, address: 0n, stag: 9 });
      emit("pasid:freed", { pasid: 5, mm: 1 });
      emit("pri:answered", answer);
    });
    expect(wrongs.filter((what) => what.startsWith("I-3"))).toHaveLength(3);
  });

  it("is free after all of them", async () => {
    const wrongs = await said(({ emit }) => {
      emit("bond:created", { device: BDF, pasid: 5, mm: 1 });
      emit("pri:requested", request(true));
      emit("stall:opened", { unit: "fake", rid: 0x100, pasid: 5, address: 0n, stag: 9 });
      emit("pri:answered", answer);
      emit("stall:resolved", { unit: "fake", rid: 0x100, stag: 9, action: "retry" });
      emit("bond:removed", { device: BDF, pasid: 5, mm: 1 });
      emit("pasid:freed", { pasid: 5, mm: 1 });
    });
    expect(wrongs).toEqual([]);
  });
});

describe("I-4, pages charged", () => {
  it("are more than before, or less than none", async () => {
    const wrongs = await said(({ platform, emit }) => {
      const task = platform.kernel.spawn({ name: "program" });
      task.memory.lockedVm = -1;
      emit("ioctl:returned", { task: "program", pid: task.pid, fd: 3, request: 0x3b72, result: 0 });
      task.memory.lockedVm = 2;
    });
    expect(wrongs).toEqual([
      expect.stringMatching(/^I-4: pid \d+ is charged for -1 pages after ioctl 0x3b72/),
      expect.stringMatching(/^I-4: pid \d+ \(program\) is charged for 2 pages more/),
    ]);
  });

  it("are the same at rest", async () => {
    const wrongs = await said(({ platform, emit }) => {
      const task = platform.kernel.spawn({ name: "program" });
      emit("ioctl:returned", { task: "program", pid: task.pid, fd: 3, request: 0x3b72, result: 0 });
    });
    expect(wrongs).toEqual([]);
  });
});

describe("I-5, locks", () => {
  const nested = ({ emit }: Stage, outer: string, inner: string, thread: string) => {
    emit("lock:acquired", lock(outer, thread));
    emit("lock:acquired", lock(inner, thread));
    emit("lock:released", lock(inner, thread));
    emit("lock:released", lock(outer, thread));
  };

  it("are taken in two orders, though not at the same time", async () => {
    const wrongs = await said((stage) => {
      nested(stage, "io_mm 1->mutex", "iommu->lock", "a");
      nested(stage, "iommu->lock", "io_mm 2->mutex", "b");
    });
    expect(wrongs).toEqual([expect.stringMatching(/^I-5: b takes io_mm 2->mutex under iommu->lock/)]);
  });

  it("are never given back, or held by a sleeper that must not sleep", async () => {
    expect(await said(({ emit }) => emit("lock:acquired", lock("x", "a")))).toEqual(["I-5: a never gave x back"]);
    const wrongs = await said(async ({ emit, scheduler }) => {
      scheduler.spawn("a", async () => {
        emit("lock:acquired", lock("s", "a", "spin"));
        await scheduler.sleep(1);
        emit("lock:released", lock("s", "a", "spin"));
      });
      await scheduler.sleep(2);
    });
    expect(wrongs).toEqual([expect.stringMatching(/^I-5: a sleeps \(time to pass\) with spinlock s/)]);
  });

  it("are taken in one order by everybody", async () => {
    const wrongs = await said((stage) => {
      for (const thread of ["a", "b"]) nested(stage, "iommu->lock", "io_mm 1->mutex", thread);
    });
    expect(wrongs).toEqual([]);
  });
});

describe("I-6, entries", () => {
  const entry = ({ platform, memory }: Stage) => {
    const pa = platform.pages.alloc(1, "PASID table");
    memory.store64(pa, 0, 1);
    memory.store64(pa + 16, 0, 0x11);
    memory.orderingPoint();
    return pa;
  };
  /** A fetch by somebody who stood still from the beginning. */
  const fetch = ({ memory }: Stage, pa: number) => {
    memory.overlap(0);
    return memory.view(Math.floor(pa / 2 ** 32), pa | 0, 16);
  };

  it("are fetched half old and half new, and valid", async () => {
    const wrongs = await said((stage) => {
      const pa = entry(stage);
      stage.memory.store64(pa, 0, 3);
      stage.memory.store64(pa + 16, 0, 0x33);
      // The first beat is of before both stores, the second of now.
      stage.choices.push(2);
      fetch(stage, pa);
      stage.platform.pages.free(pa);
    });
    expect(wrongs).toEqual([
      expect.stringMatching(/^I-6: the entry at 0x1000\w+ was fetched as 00000001 .* which it never was/),
    ]);
  });

  it("may be old as a whole, mixed while invalid, or changed before the last synchronisation", async () => {
    const wrongs = await said((stage) => {
      const pa = entry(stage);
      stage.memory.store64(pa, 0, 0);
      stage.memory.orderingPoint();
      stage.memory.store64(pa + 16, 0, 0x33);
      for (const choices of [[], [1], [1, 1, 1, 1]]) {
        stage.choices.splice(0, 4, ...choices);
        fetch(stage, pa);
      }
      stage.platform.pages.free(pa);
    });
    expect(wrongs).toEqual([]);
  });
});

describe("I-7, invalidations", () => {
  it("reach the ATC before the TLB", async () => {
    const wrongs = await said(async ({ platform, emit }) => {
      const device = platform.device(BDF);
      const task = platform.kernel.spawn();
      await platform.sva.iommuSvaDeviceInit(device, 0, 0);
      const pasid = await platform.sva.iommuSvaBindDevice(device, task.memory, 0);
      const range = { mm: task.memory.id, start: 0x1000n, end: 0x2000n };
      const atc = { unit: BDF, rid: 0x100, pasid, address: 0x1000n, size: 4096n, entries: 1 };
      emit("mm:unmapped", range);
      emit("ats:invalidated", atc);
      emit("cache:invalidated", { unit: device.iommu?.name ?? "", cache: "TLB", scope: "asid", entries: 1 });
      emit("ats:invalidated", atc);
      emit("mm:notified", range);
      emit("ats:invalidated", atc);
      await platform.sva.iommuSvaDeviceShutdown(device);
      await task.exit();
      await platform.scheduler.idle();
    });
    expect(wrongs).toEqual([expect.stringMatching(/^I-7: the ATC of 0000:01:00.0/)]);
  });
});

describe("leaks", () => {
  it("are pages with an owner", async () => {
    expect(await said(({ platform }) => void platform.pages.alloc(2, "CD table"))).toEqual([
      "leak: left behind: 2 pages of CD table",
    ]);
  });
});

describe("I-7, entries", () => {
  const AT = RAM[0].base + 0x8000;
  const store = ({ emit, memory }: Stage, address: number, value: number) => {
    memory.store64(address, 0, value);
    emit("table:written", { by: "fake", table: ENTRY.name, address, value: BigInt(value) });
  };
  const forgets = ({ emit }: Stage, cache: string) =>
    emit("cache:invalidated", { unit: "fake", cache, scope: "all", entries: 0 });

  it("change while they are valid, and a cache is left out", async () => {
    const wrongs = await said((stage) => {
      store(stage, AT, 1);
      store(stage, AT + 8, 4);
      forgets(stage, "config");
    });
    expect(wrongs).toEqual([
      `I-7: fake changed the Entry at 0x${AT.toString(16)}, which was valid, to 0x4, and did not invalidate the iotlb, after config`,
    ]);
  });

  it("change while they are valid, and caches are invalidated in the wrong order", async () => {
    const wrongs = await said((stage) => {
      store(stage, AT, 1);
      store(stage, AT, 0);
      forgets(stage, "iotlb");
      forgets(stage, "config");
    });
    expect(wrongs).toEqual([expect.stringMatching(/did not invalidate the iotlb, after config$/)]);
  });

  it("change, and the same thread changes another one first", async () => {
    const wrongs = await said((stage) => {
      store(stage, AT, 1);
      store(stage, AT, 5);
      store(stage, AT + 16, 1);
      forgets(stage, "config");
      forgets(stage, "iotlb");
    });
    expect(wrongs).toEqual([expect.stringMatching(/did not invalidate the config cache$/)]);
  });

  it("may change when they are not valid, or with every cache told; a device without ATS has none", async () => {
    const wrongs = await said((stage) => {
      store(stage, AT + 8, 4);
      store(stage, AT, 3);
      store(stage, AT, 0);
      forgets(stage, "config");
      forgets(stage, "iotlb");
      store(stage, AT + 16, 1);
    });
    expect(wrongs).toEqual([]);
  });
});
