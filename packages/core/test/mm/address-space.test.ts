import { describe, expect, it } from "vitest";
import { Access, PageFlag, type TraceRecord } from "../../src/index.js";
import { Listener, lookup, readBytes, withMm } from "./world.js";

const hex = (value: bigint) => `0x${value.toString(16)}`;

describe("mmap, munmap and faults", () => {
  it("gives memory that is zero, keeps what is written, and is gone after munmap", () =>
    withMm(async (mm) => {
      const at = await mm.mmap({ length: 3 * 4096, prot: "rw" });
      expect(hex(at)).toBe("0x7ffff7ffc000");
      expect(await mm.write(at + 4090n, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))).toBe(8);
      expect(await readBytes(mm, at + 4088n, 12)).toEqual([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
      await mm.munmap(at + 4096n, 4096);
      expect(await readBytes(mm, at + 4088n, 12)).toHaveLength(8);
      expect(mm.vmas().map(({ start, end }) => [hex(start), hex(end)])).toEqual([
        ["0x7ffff7ffc000", "0x7ffff7ffd000"],
        ["0x7ffff7ffe000", "0x7ffff7fff000"],
      ]);
    }));

  it("shows a page in both tables once it was touched, with the same address and rights", () =>
    withMm(async (mm) => {
      const at = await mm.mmap({ length: 2 * 4096 });
      await mm.write(at, Uint8Array.of(42));
      const before = mm.pageTable("x86-64");
      expect(lookup(mm, at)?.flags).toBe(PageFlag.USER | PageFlag.ACCESSED | PageFlag.WRITE | PageFlag.DIRTY);
      expect(lookup(mm, at + 4096n)).toBeUndefined();
      expect(await mm.fault(at + 4096n, Access.WRITE)).toBe("ok");
      expect(lookup(mm, at + 4096n)?.flags).toBe(PageFlag.USER | PageFlag.ACCESSED | PageFlag.WRITE | PageFlag.DIRTY);
      expect(mm.pageTable("x86-64")).toBe(before);
      expect([before.levels, before.vaBits, mm.pageTable("vmsav8-64").mair & 0xffn]).toEqual([4, 48, 0xffn]);
    }));

  it("refuses faults where nothing is mapped and accesses that the mapping does not allow (E7)", () =>
    withMm(async (mm) => {
      const text = await mm.mmap({ length: 4096, prot: "rx" });
      const data = await mm.mmap({ length: 4096, prot: "rw" });
      const guard = await mm.mmap({ length: 4096, prot: "none" });
      expect(await mm.fault(text, Access.READ | Access.EXEC)).toBe("ok");
      expect(await mm.fault(text, Access.WRITE)).toBe("segv");
      expect(await mm.fault(data, Access.EXEC)).toBe("segv");
      expect(await mm.fault(guard, Access.READ)).toBe("segv");
      expect(await mm.fault(0x1000n, Access.READ)).toBe("segv");
      expect(await mm.fault(1n << 63n, Access.READ)).toBe("segv");
    }));

  it("maps the zero page for a read and a page of its own for the write after it", () =>
    withMm(async (mm) => {
      const listener = new Listener();
      mm.registerNotifier(listener);
      const at = await mm.mmap({ length: 2 * 4096 });
      await mm.fault(at, Access.READ);
      await mm.fault(at + 4096n, Access.READ);
      const zero = lookup(mm, at);
      expect(zero?.flags).toBe(PageFlag.USER | PageFlag.ACCESSED | PageFlag.SPECIAL);
      expect(lookup(mm, at + 4096n)?.pa).toBe(zero?.pa);
      await mm.fault(at, Access.WRITE);
      expect(lookup(mm, at)?.pa).not.toBe(zero?.pa);
      expect(listener.heard).toEqual([
        `invalidateRange ${hex(at)}-${hex(at + 4096n)}`,
        `changePte ${hex(at)}-${hex(at + 4096n)}`,
      ]);
    }));

  it("frees a page only after every notifier has returned, and clears the entries before the first (I-7)", () =>
    withMm(async (mm, world) => {
      const records = world.record("mm:unmapped", "notifier:called", "page:freed");
      const order: string[] = [];
      const at = await mm.mmap({ length: 2 * 4096, populate: true });
      const page = lookup(mm, at);
      for (const name of ["first", "second"]) {
        const listener = new Listener();
        listener.meanwhile = async () => {
          expect(lookup(mm, at)).toBeUndefined();
          order.push(`${name} starts, page ${world.pages.ownerOf(page?.pa ?? 0)}`);
          await world.scheduler.sleep(1000);
          order.push(`${name} ends`);
        };
        mm.registerNotifier(listener);
      }
      await mm.munmap(at, 2 * 4096);
      expect(order).toEqual([
        "first starts, page pid 7 anon",
        "first ends",
        "second starts, page pid 7 anon",
        "second ends",
      ]);
      const ofTables = (record: TraceRecord) => record.name === "page:freed" && record.owner !== "pid 7 anon";
      expect(records.filter((record) => !ofTables(record)).map(({ name }) => name)).toEqual([
        "mm:unmapped",
        "notifier:called",
        "notifier:called",
        "page:freed",
        "page:freed",
      ]);
      expect(world.pages.ownerOf(page?.pa ?? 0)).toBeUndefined();
    }));
});

describe("fork", () => {
  it("shares private pages until one side writes, and tells the parent's notifiers", () =>
    withMm(async (mm) => {
      const listener = new Listener();
      mm.registerNotifier(listener);
      const at = await mm.mmap({ length: 2 * 4096 });
      await mm.write(at, Uint8Array.of(1));
      lookup(mm, at);
      const child = await mm.fork("pid 8");
      expect(listener.heard).toEqual([`invalidateRange ${hex(at)}-${hex(at + 4096n)}`]);
      expect((lookup(mm, at)?.flags ?? 0) & PageFlag.WRITE).toBe(0);
      expect(lookup(child, at)?.pa).toBe(lookup(mm, at)?.pa);
      await child.write(at, Uint8Array.of(2));
      expect([await readBytes(mm, at, 1), await readBytes(child, at, 1)]).toEqual([[1], [2]]);
      const before = lookup(mm, at)?.pa;
      await mm.write(at, Uint8Array.of(3));
      expect(lookup(mm, at)?.pa).toBe(before);
      expect(await readBytes(child, at, 1)).toEqual([2]);
      await child.mmput();
    }));
});

describe("exit", () => {
  it("tells release while everything is mapped, once, and then frees everything", () =>
    withMm(async (mm, world) => {
      const at = await mm.mmap({ length: 4096, populate: true });
      const listener = new Listener();
      listener.meanwhile = async () => {
        expect(lookup(mm, at)).toBeDefined();
        expect(mm.mmgetNotZero()).toBe(false);
        expect(await mm.fault(at, Access.READ)).toBe("segv");
      };
      mm.registerNotifier(listener);
      mm.mmget();
      await mm.mmput();
      expect(listener.heard).toEqual([]);
      mm.mmgrab();
      await mm.mmput();
      expect(listener.heard).toEqual(["release"]);
      // The roots stay for hardware that still holds them.
      expect([...world.pages.usage().keys()]).toEqual(["pid 7 vmsav8-64 table", "pid 7 x86-64 table"]);
      mm.mmdrop();
    }));
});
