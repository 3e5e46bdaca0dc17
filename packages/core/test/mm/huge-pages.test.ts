import { describe, expect, it } from "vitest";
import { Access, type AddressSpace, PageFlag } from "../../src/index.js";
import { Listener, lookup, readBytes, withMm } from "./world.js";

const at0 = 0x4000_0000n;
const MIB2 = 0x20_0000;
const page = (index: number) => at0 + BigInt(index) * 4096n;
const block = "0x40000000-0x40200000";

async function huge(mm: AddressSpace, blocks = 1): Promise<void> {
  await mm.mmap({ length: blocks * MIB2, address: at0 });
  await mm.madvise(at0, blocks * MIB2, "hugepage");
  for (let i = 0; i < blocks; i++) await mm.write(page(512 * i), Uint8Array.of(i + 1));
}

function listen(mm: AddressSpace): string[] {
  const listener = new Listener();
  mm.registerNotifier(listener);
  return listener.heard;
}

describe("transparent huge pages", () => {
  it("are one 2 MiB entry in both formats after the first touch", () =>
    withMm(async (mm) => {
      await huge(mm);
      const first = lookup(mm, at0);
      expect([first?.shift, (first?.pa ?? 1) % MIB2]).toEqual([21, 0]);
      expect(lookup(mm, page(511))?.pa).toBe((first?.pa ?? 0) + 511 * 4096);
      expect(mm.mappings.pages.size).toBe(512);
      expect(mm.pageTable("x86-64").bytes).toBe(3 * 4096);
    }));

  it("need the advice, a whole free 2 MiB in the mapping, and memory; small pages do otherwise", async () => {
    await withMm(async (mm) => {
      await mm.mmap({ length: MIB2, address: at0, populate: true });
      expect(lookup(mm, at0)?.shift).toBe(12);
    });
    await withMm(async (mm) => {
      await mm.mmap({ length: MIB2 + 4096, address: page(511) });
      await mm.madvise(page(511), MIB2 + 4096, "hugepage");
      await mm.fault(page(511), Access.WRITE);
      expect([lookup(mm, page(511))?.shift, lookup(mm, page(512))]).toEqual([12, undefined]);
      await mm.fault(page(513), Access.WRITE);
      expect(lookup(mm, page(512))?.shift).toBe(21);
    });
    await withMm(
      async (mm) => {
        await mm.mmap({ length: MIB2, address: at0 });
        await mm.fault(at0, Access.WRITE);
        expect(lookup(mm, at0)?.shift).toBe(12);
      },
      { hugePages: "always", ram: 0x10_0000 },
    );
    await withMm(
      async (mm) => {
        const at = await mm.mmap({ length: MIB2 });
        expect(at % BigInt(MIB2)).toBe(0n);
        await mm.madvise(at, MIB2, "nohugepage");
        await mm.fault(at, Access.WRITE);
        expect(lookup(mm, at)?.shift).toBe(12);
      },
      { hugePages: "always" },
    );
  });

  it("are split by an munmap of a part: the whole block is told first, then the part", () =>
    withMm(async (mm) => {
      await huge(mm);
      const pa = lookup(mm, at0)?.pa;
      const heard = listen(mm);
      await mm.munmap(page(10), 4096);
      expect(heard).toEqual([`invalidateRange ${block}`, "invalidateRange 0x4000a000-0x4000b000"]);
      expect([lookup(mm, at0)?.pa, lookup(mm, at0)?.shift, lookup(mm, page(10))]).toEqual([pa, 12, undefined]);
      expect(await readBytes(mm, at0, 1)).toEqual([1]);
    }));

  it("are not split by what covers them whole", () =>
    withMm(async (mm) => {
      await huge(mm, 2);
      lookup(mm, at0);
      const heard = listen(mm);
      await mm.mprotect(at0, MIB2, "r");
      expect([lookup(mm, at0)?.shift, lookup(mm, page(512))?.shift]).toEqual([21, 21]);
      expect(heard).toEqual([`invalidateRange ${block}`]);
      await mm.mprotect(at0, MIB2, "none");
      await mm.mprotect(at0, MIB2, "rw");
      expect(lookup(mm, at0)?.shift).toBe(21);
      expect(await mm.mremap(at0, MIB2, MIB2, { to: 0x8000_0000n })).toBe(0x8000_0000n);
      expect(lookup(mm, 0x8000_0000n)?.shift).toBe(21);
      expect(await mm.mremap(0x8000_0000n, MIB2, MIB2, { to: 0x9000_1000n })).toBe(0x9000_1000n);
      expect(lookup(mm, 0x9000_1000n)?.shift).toBe(12);
      expect(await readBytes(mm, 0x9000_1000n, 1)).toEqual([1]);
    }));

  it("are shared by fork and split by the first write after it", () =>
    withMm(async (mm) => {
      await huge(mm);
      const child = await mm.fork("pid 8");
      expect(lookup(child, at0)).toEqual(lookup(mm, at0));
      await child.write(page(3), Uint8Array.of(33));
      expect([lookup(mm, page(3))?.shift, lookup(child, page(3))?.shift, lookup(child, page(4))?.shift]).toEqual([
        21, 12, 12,
      ]);
      expect(lookup(child, page(4))?.pa).toBe(lookup(mm, page(4))?.pa);
      expect([await readBytes(mm, page(3), 1), await readBytes(child, page(3), 1)]).toEqual([[0], [33]]);
      await child.mmput();
      // Alone again, the parent takes the whole block back with one entry.
      await mm.write(page(3), Uint8Array.of(44));
      expect([lookup(mm, page(3))?.shift, (lookup(mm, page(3))?.flags ?? 0) & PageFlag.WRITE]).toEqual([
        21,
        PageFlag.WRITE,
      ]);
    }));

  it("go back to the allocator when the last of their pages does", () =>
    withMm(async (mm, world) => {
      await huge(mm);
      await mm.munmap(page(1), MIB2 - 4096);
      expect(world.pages.usage().get("pid 7 anon")).toBe(512);
      await mm.munmap(at0, 4096);
      expect(world.pages.usage().get("pid 7 anon")).toBeUndefined();
    }));
});

describe("collapse (khugepaged, MADV_COLLAPSE)", () => {
  it("makes one entry of 512, copying when nobody can write any more", () =>
    withMm(async (mm, world) => {
      await mm.mmap({ length: MIB2, address: at0 });
      await mm.write(page(7), Uint8Array.of(7));
      await mm.fault(page(8), Access.READ);
      const pa = lookup(mm, page(7))?.pa ?? 0;
      const listener = new Listener();
      listener.meanwhile = async (callback) => {
        // The last write of a device that still has the old translation.
        if (callback === "invalidateRange") world.memory.writeBytes(pa + 1, Uint8Array.of(8));
      };
      mm.registerNotifier(listener);
      await mm.madvise(at0, MIB2, "collapse");
      expect(listener.heard).toEqual([`invalidateRange ${block}`]);
      expect(lookup(mm, page(7))?.shift).toBe(21);
      expect(await readBytes(mm, page(7), 2)).toEqual([7, 8]);
      expect(world.pages.ownerOf(pa)).toBeUndefined();
      expect(await mm.collapse(at0)).toBe(true);
      expect(listener.heard).toHaveLength(1);
    }));

  it("refuses pinned, forked, shared and hidden pages, and a 2 MiB that is not one mapping", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: MIB2, address: at0 });
      const pin = await mm.pin(at0, true);
      expect(await mm.collapse(at0)).toBe(false);
      await expect(mm.madvise(at0, MIB2, "collapse")).rejects.toThrow("EAGAIN");
      pin.unpin();
      const child = await mm.fork("pid 8");
      expect(await mm.collapse(at0)).toBe(false);
      await child.mmput();
      await mm.mprotect(at0, 4096, "r");
      expect(await mm.collapse(at0)).toBe(false);
      await mm.mprotect(at0, MIB2, "none");
      expect(await mm.collapse(at0)).toBe(false);
      await mm.mmap({ length: MIB2, address: 0x8000_0000n, shared: true });
      expect(await mm.collapse(0x8000_0000n)).toBe(false);
    }));

  it("splits back on demand, in place", () =>
    withMm(async (mm) => {
      await huge(mm);
      const pa = lookup(mm, page(5))?.pa;
      const heard = listen(mm);
      await mm.split(page(5));
      expect(lookup(mm, page(5))).toMatchObject({ pa, shift: 12 });
      expect(heard).toEqual([`invalidateRange ${block}`]);
      await mm.split(page(5));
      expect(heard).toHaveLength(1);
    }));

  it("leaves entries out when there is no memory for the table; a fault brings them back", async () => {
    let fail = false;
    await withMm(
      async (mm) => {
        await huge(mm);
        lookup(mm, at0);
        fail = true;
        await mm.split(at0);
        expect(lookup(mm, at0)).toBeUndefined();
        fail = false;
        expect(await mm.fault(page(9), Access.WRITE)).toBe("ok");
        expect(lookup(mm, page(9))?.shift).toBe(12);
        expect(await readBytes(mm, at0, 1)).toEqual([1]);
      },
      { failAlloc: (owner) => fail && owner.endsWith("table") },
    );
  });
});

describe("KSM", () => {
  it("leaves alone what others have the bytes of: a file's page, the zero page", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("data", 4096);
      file.write(0, Uint8Array.of(7));
      await mm.mmap({ length: 4096, address: at0, file });
      await mm.mmap({ length: 8192, address: page(1) });
      await mm.write(page(1), Uint8Array.of(7));
      expect(await readBytes(mm, at0, 1)).toEqual([7]);
      expect([await mm.merge(at0, page(1)), await mm.merge(page(1), at0)]).toEqual([false, false]);
      file.write(0, Uint8Array.of(9));
      expect(await readBytes(mm, page(1), 1)).toEqual([7]);
      await mm.write(page(1), Uint8Array.of(0));
      await readBytes(mm, page(2), 1);
      expect([await mm.merge(page(1), page(2)), await mm.merge(page(2), page(1))]).toEqual([false, false]);
      file.close();
    }));

  it("makes one page of two equal ones until somebody writes", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: 3 * 4096, address: at0 });
      for (const index of [0, 1]) await mm.write(page(index), Uint8Array.of(5));
      await mm.write(page(2), Uint8Array.of(6));
      lookup(mm, at0);
      const heard = listen(mm);
      expect(await mm.merge(at0, page(1))).toBe(true);
      expect(heard.at(-1)).toBe("changePte 0x40001000-0x40002000");
      expect(lookup(mm, page(1))?.pa).toBe(lookup(mm, at0)?.pa);
      expect(await mm.merge(at0, page(2))).toBe(false);
      await mm.write(page(1), Uint8Array.of(9));
      expect([await readBytes(mm, at0, 1), await readBytes(mm, page(1), 1)]).toEqual([[5], [9]]);
    }));
});
