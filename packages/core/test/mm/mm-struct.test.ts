import { describe, expect, it } from "vitest";
import { Access, AddressSpaces, createPlatform, type Mm, PageFlag } from "../../src/index.js";
import { walkPageTable } from "../../src/testing/index.js";
import { Listener, lookup, readBytes, World, withMm } from "./world.js";

describe("mm_users and mm_count", () => {
  it("keep the mappings and the struct apart", () =>
    withMm(async (mm) => {
      expect([mm.mmUsers, mm.mmCount]).toEqual([1, 1]);
      expect(mm.mmgetNotZero()).toBe(true);
      mm.mmgrab();
      expect([mm.mmUsers, mm.mmCount]).toEqual([2, 2]);
      await mm.mmput();
      await mm.mmput();
      expect([mm.mmUsers, mm.mmCount]).toEqual([0, 1]);
      expect(mm.mmgetNotZero()).toBe(false);
      expect(() => mm.mmget()).toThrow("whose last user is gone");
      let dropped = 0;
      mm.onDrop(() => dropped++);
      mm.mmdrop();
      expect(dropped).toBe(1);
      expect(() => mm.mmdrop()).toThrow("which is gone");
    }));

  it("mmputAsync tears down from a worker: the caller may hold what the teardown needs (B9)", () =>
    withMm(async (mm, world) => {
      const listener = new Listener();
      mm.registerNotifier(listener);
      mm.mmget();
      mm.mmputAsync();
      expect(mm.mmUsers).toBe(1);
      mm.mmputAsync();
      expect([mm.mmUsers, listener.heard.length, mm.mmgetNotZero()]).toEqual([0, 0, false]);
      await world.scheduler.idle();
      expect(listener.heard).toEqual(["release"]);
    }));

  it("an exit waits for an munmap that is under way, and frees everything once", () =>
    withMm(async (mm, world) => {
      const at = await mm.mmap({ length: 8 * 4096, populate: true });
      lookup(mm, at);
      const slow = new Listener();
      slow.meanwhile = async (callback) => {
        if (callback === "invalidateRange") await world.scheduler.sleep(1000);
      };
      mm.registerNotifier(slow);
      world.scheduler.spawn("unmapper", () => mm.munmap(at, 4 * 4096));
      await world.scheduler.yield();
      await mm.mmput();
      expect(slow.heard).toEqual([`invalidateRange 0x${at.toString(16)}-0x${(at + 0x4000n).toString(16)}`, "release"]);
      await expect(mm.mmap({ length: 4096 })).rejects.toThrow("ESRCH");
    }));
});

describe("page tables of an address space", () => {
  it("are made from what is resident, whenever they are asked for", () =>
    withMm(async (mm, world) => {
      const at = await mm.mmap({ length: 1025 * 4096 });
      await mm.madvise(at, 1025 * 4096, "hugepage");
      await mm.madvise(at, 1025 * 4096, "populate");
      const arm = mm.pageTable("vmsav8-64");
      const bytes = arm.bytes;
      const x86 = mm.pageTable("x86-64");
      for (let page = 0n; page < 1025n; page += 64n) {
        const address = at + page * 4096n;
        const walks = [arm, x86].map((table) => walkPageTable(world.memory, table, address));
        expect(walks[0].pa).toBe(walks[1].pa);
        expect(walks[0].pa).toBe(lookup(mm, address)?.pa);
        expect(walks.map(({ steps }) => steps.map(({ index }) => index))).toEqual([
          walks[0].steps.map(({ index }) => index),
          walks[0].steps.map(({ index }) => index),
        ]);
      }
      expect(arm.bytes).toBe(bytes);
      expect([arm.pageSize, arm.levels, x86.mair]).toEqual([4096, 4, 0n]);
    }));

  it("are refused, with nothing left, when there is no memory for them", async () => {
    let tables = 0;
    await withMm(
      async (mm) => {
        await mm.mmap({ length: 4096, populate: true });
        expect(() => mm.pageTable("x86-64")).toThrow("ENOMEM");
        tables = 0;
        expect(() => mm.pageTable("vmsav8-64")).toThrow("ENOMEM");
      },
      { failAlloc: (owner) => owner.endsWith("table") && ++tables > 3 },
    );
  });

  it("let a fault answer oom when they cannot grow, and the next one succeed", async () => {
    let fail = false;
    await withMm(
      async (mm) => {
        const at = await mm.mmap({ length: 4096 });
        mm.pageTable("x86-64");
        fail = true;
        expect(await mm.fault(at, Access.WRITE)).toBe("oom");
        fail = false;
        expect(await mm.fault(at, Access.WRITE)).toBe("ok");
        expect(lookup(mm, at)).toBeDefined();
      },
      { failAlloc: (owner) => fail && owner.endsWith("table") },
    );
  });

  it("of a 48-bit process exist for arm64 only; five x86 levels hold 57 bits", async () => {
    await withMm(
      async (mm) => {
        expect(() => mm.pageTable("x86-64")).toThrow("EINVAL: pid 7 uses 48-bit addresses, x86-64 tables hold 47");
        const at = await mm.mmap({ length: 4096 });
        expect(at).toBeGreaterThan(1n << 47n);
        await mm.fault(at, Access.READ);
        expect(mm.pageTable("vmsav8-64").lookup(at)).toBeDefined();
      },
      { addressBits: 48 },
    );
    await withMm(
      async (mm) => {
        const at = await mm.mmap({ length: 4096, address: 0xff_ffff_ffff_0000n, fixed: true });
        await mm.fault(at, Access.WRITE);
        const table = mm.pageTable("x86-64");
        expect([table.levels, table.vaBits, table.lookup(at)?.shift]).toEqual([5, 57, 12]);
        expect(() => mm.pageTable("vmsav8-64")).toThrow("EINVAL");
      },
      { addressBits: 56, x86Levels: 5 },
    );
  });
});

describe("handle_mm_fault", () => {
  it("sets the access flag again that aging took (F_ACCESS without hardware updates)", () =>
    withMm(async (mm) => {
      const at = await mm.mmap({ length: 4096, populate: true });
      lookup(mm, at);
      await mm.age(at, 4096);
      expect((lookup(mm, at)?.flags ?? 0) & PageFlag.ACCESSED).toBe(0);
      expect(await mm.fault(at, Access.READ)).toBe("ok");
      expect((lookup(mm, at)?.flags ?? 0) & PageFlag.ACCESSED).toBe(PageFlag.ACCESSED);
    }));

  it("invalidates when a write faults on an entry that allows it: a read-only translation is cached somewhere", () =>
    withMm(async (mm) => {
      const listener = new Listener();
      mm.registerNotifier(listener);
      const at = await mm.mmap({ length: 4096, populate: true });
      expect(await mm.fault(at, Access.READ)).toBe("ok");
      expect(listener.heard).toEqual([]);
      expect(await mm.fault(at, Access.WRITE)).toBe("ok");
      expect(listener.heard).toHaveLength(1);
    }));

  it("makes a shared page that was only read writable and clean, and dirty when somebody writes", () =>
    withMm(async (mm) => {
      const at = await mm.mmap({ length: 4096, shared: true });
      await mm.fault(at, Access.READ);
      const flags = () => lookup(mm, at)?.flags ?? 0;
      expect(flags() & (PageFlag.WRITE | PageFlag.DIRTY)).toBe(PageFlag.WRITE);
      await mm.write(at, Uint8Array.of(1));
      expect(flags() & PageFlag.DIRTY).toBe(PageFlag.DIRTY);
    }));

  it("tells the trace what it answered", () =>
    withMm(async (mm, world) => {
      const records = world.record("mm:faulted");
      const at = await mm.mmap({ length: 4096 });
      await mm.fault(at, Access.READ);
      await mm.fault(at + 4096n, Access.READ);
      expect(records).toMatchObject([
        { name: "mm:faulted", mm: 1, address: at, access: 1, result: "ok" },
        { name: "mm:faulted", mm: 1, address: at + 4096n, access: 1, result: "segv" },
      ]);
    }));
});

describe("tasks", () => {
  it("have an address space of their own, which fork copies and exit frees", async () => {
    const platform = await createPlatform({ iommus: [], mm: { zeroPage: false } });
    await platform.run(async () => {
      const task = platform.kernel.spawn({ name: "worker" });
      const { mm } = task;
      if (!mm) throw new Error("a task has an mm");
      expect(mm.owner).toBe("pid 1 (worker)");
      const spaces = platform.resolve(AddressSpaces);
      expect(spaces.zeroPage).toBe(false);
      const child = await task.fork();
      expect([child.pid, child.mm?.owner, child.mm?.id]).toEqual([2, "pid 2 (worker-child)", 2]);
      await child.exec(platform.kernel.createMm("pid 2 (new)"));
      expect(await readBytes(child.mm ?? mm, 0x1000n, 4)).toEqual([]);
    });
    expect(await platform.close()).toEqual([]);
  });

  it("cannot fork an address space that is not simulated", async () => {
    const world = new World();
    await expect(world.spaces.fork({ owner: "pid 99" } as Mm, "pid 100")).rejects.toThrow(
      "EINVAL: pid 99 is not a simulated",
    );
  });
});
