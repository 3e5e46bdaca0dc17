import { describe, expect, it } from "vitest";
import { Access, type AddressSpace, type BusRegion, type FileMapping, PageFlag } from "../../src/index.js";
import { Listener, lookup, readBytes, type World, withMm } from "./world.js";

const at0 = 0x4000_0000n;

/** Two pages of device registers at 0xd0000000. */
function device(world: World): { mapping: FileMapping; bytes: Uint8Array; closed: () => number } {
  const bytes = new Uint8Array(8192);
  const region: BusRegion = {
    name: "bar0",
    base: 0xd000_0000,
    size: 8192,
    read: (offset, into) => {
      into.set(bytes.subarray(offset, offset + into.length));
      return true;
    },
    write: (offset, from) => {
      bytes.set(from, offset);
      return true;
    },
  };
  world.bus.attach(region);
  let closed = 0;
  const page = (offset: number) => (offset < 8192 ? 0xd000_0000 + offset : undefined);
  return { mapping: { page, close: () => closed++ }, bytes, closed: () => closed };
}

describe("a file in memory", () => {
  it("is seen by everybody who maps it shared, and by read and write", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("data", 8192);
      file.write(4090, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
      await mm.mmap({ length: 8192, address: at0, file, shared: true });
      const other = world.create("pid 8");
      await other.mmap({ length: 4096, address: at0, file, offset: 4096, shared: true });
      expect(await readBytes(other, at0, 2)).toEqual([7, 8]);
      await other.write(at0, Uint8Array.of(70));
      expect(await readBytes(mm, at0 + 4094n, 4)).toEqual([5, 6, 70, 8]);
      const back = new Uint8Array(4);
      expect(file.read(4094, back)).toBe(4);
      expect([...back]).toEqual([5, 6, 70, 8]);
      expect(file.read(8190, back)).toBe(2);
      expect(lookup(mm, at0 + 4096n)?.pa).toBe(lookup(other, at0)?.pa);
      await other.mmput();
      file.close();
    }));

  it("mapped privately is copied by the first write, and its page not dirtied", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("libc.so", 4096);
      file.write(0, Uint8Array.of(1));
      await mm.mmap({ length: 4096, address: at0, file });
      expect(await readBytes(mm, at0, 1)).toEqual([1]);
      expect((lookup(mm, at0)?.flags ?? 0) & (PageFlag.WRITE | PageFlag.DIRTY)).toBe(0);
      file.write(0, Uint8Array.of(2));
      expect(await readBytes(mm, at0, 1)).toEqual([2]);
      await mm.write(at0, Uint8Array.of(9));
      const byte = new Uint8Array(1);
      file.read(0, byte);
      expect([byte[0], await readBytes(mm, at0, 1)]).toEqual([2, [9]]);
      expect(mm.vmas()[0].name).toBe("libc.so");
      file.close();
    }));

  it("answers accesses beyond its end with SIGBUS", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("short", 100);
      await mm.mmap({ length: 8192, address: at0, file, shared: true });
      expect([await mm.fault(at0, Access.WRITE), await mm.fault(at0 + 4096n, Access.READ)]).toEqual(["ok", "bus"]);
      expect(await readBytes(mm, at0 + 4000n, 200)).toHaveLength(96);
      file.close();
    }));

  it("takes its pages out of every address space when it is truncated, before they are free", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("data", 3 * 4096);
      await mm.mmap({ length: 3 * 4096, address: at0, file, shared: true, populate: true });
      await mm.mmap({ length: 4096, address: at0 + 0x10_0000n, file, offset: 2 * 4096 });
      await mm.write(at0 + 0x10_0000n, Uint8Array.of(1));
      await mm.write(at0 + 4096n, Uint8Array.of(1, 2, 3));
      lookup(mm, at0);
      const pa = lookup(mm, at0 + 2n * 4096n)?.pa ?? 0;
      const listener = new Listener();
      listener.meanwhile = async () => expect(world.pages.ownerOf(pa)).toBe("file data");
      mm.registerNotifier(listener);
      await file.truncate(4096 + 2);
      expect(listener.heard).toEqual([
        "invalidateRange 0x40002000-0x40003000",
        "invalidateRange 0x40100000-0x40101000",
      ]);
      expect(world.pages.ownerOf(pa)).toBeUndefined();
      expect(await mm.fault(at0 + 2n * 4096n, Access.READ)).toBe("bus");
      expect(await readBytes(mm, at0 + 4096n, 3)).toEqual([1, 2, 0]);
      await file.truncate(3 * 4096);
      expect(await readBytes(mm, at0 + 2n * 4096n, 1)).toEqual([0]);
      mm.unregisterNotifier(listener);
      file.close();
    }));

  it.each<[string, bigint, (mm: AddressSpace) => Promise<unknown>]>([
    ["moved", at0 + 0x20_0000n, (mm) => mm.mremap(at0, 16384, 16384, { to: at0 + 0x20_0000n })],
    ["split", at0, (mm) => mm.mprotect(at0 + 4096n, 8192, "r")],
  ])("takes its pages out of a mapping that is %s while truncate waits for the mmap_lock", (_how, where, change) =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("data", 4 * 4096);
      await mm.mmap({ length: 4 * 4096, address: at0, file, shared: true, populate: true });
      let left = 2;
      const waiting = (name: string, body: () => Promise<unknown>) =>
        world.scheduler.spawn(name, async () => {
          await body();
          left--;
        });
      await mm.mmapLock.with(async () => {
        waiting("change", () => change(mm));
        waiting("truncate", () => file.truncate(0));
        await world.scheduler.idle();
      });
      await world.scheduler.idle();
      expect(left).toBe(0);
      expect([0n, 1n, 2n, 3n].map((n) => lookup(mm, where + n * 4096n))).toEqual(Array(4).fill(undefined));
      file.close();
    }),
  );

  it("lives on while it is mapped, split or moved, and is gone with its last mapping", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("data", 3 * 4096);
      await mm.mmap({ length: 3 * 4096, address: at0, file, shared: true });
      await mm.write(at0 + 2n * 4096n, Uint8Array.of(3));
      file.close();
      await mm.munmap(at0 + 4096n, 4096);
      await mm.munmap(at0, 4096);
      const moved = await mm.mremap(at0 + 2n * 4096n, 4096, 4096, { to: at0 });
      expect(await readBytes(mm, moved, 1)).toEqual([3]);
      await mm.munmap(moved, 4096);
      expect([...world.pages.usage()]).toEqual([]);
    }));

  it("keeps what nobody has resident after its opener has closed it, as long as it is mapped", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("data", 8192);
      await mm.mmap({ length: 8192, address: at0, file, shared: true });
      await mm.write(at0 + 4096n, Uint8Array.of(7));
      await mm.madvise(at0, 8192, "dontneed");
      file.close();
      await mm.munmap(at0, 4096);
      expect(await readBytes(mm, at0 + 4096n, 1)).toEqual([7]);
    }));

  it("shows its own bytes in neighbours that are not neighbours in the file", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("data", 3 * 4096);
      for (const page of [0, 1, 2]) file.write(page * 4096, Uint8Array.of(page));
      for (const [i, page] of [0, 2, 1].entries())
        await mm.mmap({ length: 4096, address: at0 + BigInt(i * 4096), file, offset: page * 4096, shared: true });
      const shown: number[] = [];
      for (let page = 0n; page < 3n; page++) shown.push(...(await readBytes(mm, at0 + page * 4096n, 1)));
      expect(shown).toEqual([0, 2, 1]);
      file.close();
    }));

  it("that is not open for writing cannot be mapped or made writable when shared (EACCES)", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("ro", 4096);
      await expect(mm.mmap({ length: 4096, file, shared: true, mayWrite: false })).rejects.toThrow("EACCES");
      const shared = await mm.mmap({ length: 4096, file, shared: true, mayWrite: false, prot: "r" });
      await expect(mm.mprotect(shared, 4096, "rw")).rejects.toThrow("EACCES");
      const copied = await mm.mmap({ length: 4096, file, mayWrite: false });
      expect(await mm.write(copied, Uint8Array.of(1))).toBe(1);
      file.close();
    }));
});

describe("shared anonymous memory", () => {
  it("is one memory for parent and child", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: 8192, address: at0, shared: true });
      await mm.write(at0, Uint8Array.of(1));
      const child = await mm.fork("pid 8");
      await child.write(at0, Uint8Array.of(2));
      await child.write(at0 + 4096n, Uint8Array.of(3));
      expect([await readBytes(mm, at0, 1), await readBytes(mm, at0 + 4096n, 1)]).toEqual([[2], [3]]);
      expect((lookup(mm, at0)?.flags ?? 0) & PageFlag.WRITE).toBe(PageFlag.WRITE);
      await child.mmput();
    }));
});

describe("device memory (VM_PFNMAP)", () => {
  it("is mapped uncached, read and written over the bus, and closed with the last mapping", () =>
    withMm(async (mm, world) => {
      const { mapping, bytes, closed } = device(world);
      const at = await mm.mmap({ length: 3 * 4096, device: mapping, shared: true, name: "/dev/vfio/7" });
      bytes[4] = 42;
      expect(await readBytes(mm, at + 4n, 1)).toEqual([42]);
      await mm.write(at + 4100n, Uint8Array.of(7));
      expect(bytes[4100]).toBe(7);
      const { pa, flags } = lookup(mm, at + 4096n) ?? { pa: 0, flags: 0 };
      expect([pa, flags & PageFlag.DEVICE, flags & PageFlag.SPECIAL]).toEqual([
        0xd000_1000,
        PageFlag.DEVICE,
        PageFlag.SPECIAL,
      ]);
      expect(await mm.fault(at + 8192n, Access.READ)).toBe("bus");
      const pin = await mm.pin(at, true);
      expect([pin.pa, pin.reserved]).toEqual([0xd000_0000, true]);
      pin.unpin();
      await mm.munmap(at, 4096);
      expect(closed()).toBe(0);
      const child = await mm.fork("pid 8");
      expect(await readBytes(child, at + 4100n, 1)).toEqual([7]);
      await mm.munmap(at, 3 * 4096);
      expect(closed()).toBe(0);
      await child.mmput();
      expect(closed()).toBe(1);
    }));

  it("leaves the address space when the device stops answering (unmap_mapping_range), and can be faulted in again", () =>
    withMm(async (mm, world) => {
      let revoke = async () => {};
      const mapping = Object.assign(device(world).mapping, { mapped: (how: typeof revoke) => (revoke = how) });
      const at = await mm.mmap({ length: 2 * 4096, device: mapping, shared: true, populate: true });
      lookup(mm, at);
      const listener = new Listener();
      mm.registerNotifier(listener);
      await revoke();
      expect(listener.heard).toEqual([`invalidateRange 0x${at.toString(16)}-0x${(at + 8192n).toString(16)}`]);
      expect(lookup(mm, at)).toBeUndefined();
      expect(await mm.fault(at, Access.WRITE)).toBe("ok");
    }));
});
