import { describe, expect, it } from "vitest";
import { PageFlag } from "../../src/index.js";
import { lookup, readBytes, withMm } from "./world.js";

const at0 = 0x4000_0000n;

describe("get_user_pages", () => {
  it("keeps a page over munmap and exit until it is unpinned", () =>
    withMm(async (mm, world) => {
      await mm.mmap({ length: 4096, address: at0 });
      await mm.write(at0, Uint8Array.of(1));
      const pin = await mm.pin(at0 + 100n, true);
      expect([pin.pa, pin.reserved]).toEqual([lookup(mm, at0)?.pa, false]);
      await mm.munmap(at0, 4096);
      expect(world.pages.ownerOf(pin.pa)).toBe("pid 7 anon");
      await mm.mmput();
      expect([...world.pages.usage()]).toEqual([["pid 7 anon", 1]]);
      const freed = world.record("page:freed");
      pin.unpin();
      expect(freed).toMatchObject([{ address: pin.pa, owner: "pid 7 anon" }]);
      expect(() => pin.unpin()).toThrow("is not pinned any more");
    }));

  it("answers EFAULT where nothing is mapped, for PROT_NONE, for a write to what is read-only, and beyond a file's end", () =>
    withMm(async (mm, world) => {
      const file = world.spaces.createFile("short", 4096);
      const none = await mm.mmap({ length: 4096, prot: "none" });
      const ro = await mm.mmap({ length: 4096, prot: "r" });
      const wo = await mm.mmap({ length: 4096, prot: "w" });
      const beyond = (await mm.mmap({ length: 8192, file, shared: true })) + 4096n;
      for (const [at, write] of [
        [0x1000n, false],
        [none, false],
        [ro, true],
        [wo, false],
        [beyond, false],
      ] as const) {
        await expect(mm.pin(at, write), `0x${at.toString(16)} ${write}`).rejects.toThrow("EFAULT");
      }
      file.close();
    }));

  it("answers ENOMEM when there is no page", () =>
    withMm(
      async (mm) => {
        const at = await mm.mmap({ length: 4096 });
        await expect(mm.pin(at, true)).rejects.toThrow("ENOMEM");
      },
      { failAlloc: () => true },
    ));

  it("of memory that was never written gives a page of its own, not the zero page: later writes must be seen", () =>
    withMm(async (mm, world) => {
      await mm.mmap({ length: 4096, address: at0 });
      const pin = await mm.pin(at0, false);
      await mm.write(at0, Uint8Array.of(5));
      const byte = new Uint8Array(1);
      world.memory.readBytes(pin.pa, byte);
      expect([byte[0], lookup(mm, at0)?.pa]).toEqual([5, pin.pa]);
      pin.unpin();
    }));

  it("keeps the parent's page in the parent: fork copies it for the child at once", () =>
    withMm(async (mm, world) => {
      await mm.mmap({ length: 2 * 4096, address: at0 });
      await mm.write(at0, new Uint8Array(8192).fill(1));
      const pin = await mm.pin(at0, true);
      const child = await mm.fork("pid 8");
      expect((lookup(mm, at0)?.flags ?? 0) & PageFlag.WRITE).toBe(PageFlag.WRITE);
      expect((lookup(mm, at0 + 4096n)?.flags ?? 0) & PageFlag.WRITE).toBe(0);
      expect(lookup(child, at0)?.pa).not.toBe(pin.pa);
      await mm.write(at0, Uint8Array.of(2));
      world.memory.writeBytes(pin.pa + 1, Uint8Array.of(3));
      expect([await readBytes(mm, at0, 3), await readBytes(child, at0, 3)]).toEqual([
        [2, 3, 1],
        [1, 1, 1],
      ]);
      pin.unpin();
      await child.mmput();
    }));

  it("of several pages holds those that are contiguous, up to the first that is elsewhere or cannot be pinned", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: 6 * 4096, address: at0, populate: true });
      await mm.mmap({ length: 4096, address: at0 + 6n * 4096n, prot: "r" });
      // The third page moves away: its old place stays taken, so the copy is somewhere else.
      const third = await mm.pin(at0 + 2n * 4096n, true);
      await mm.munmap(at0 + 2n * 4096n, 4096);
      await mm.mmap({ length: 4096, address: at0 + 2n * 4096n, populate: true });
      const pins = [];
      for (let page = 0; page < 6; page += pins.at(-1)?.pages ?? 6)
        pins.push(await mm.pin(at0 + BigInt(page) * 4096n, true, false, 100));
      expect(pins.map(({ pages }) => pages)).toEqual([2, 1, 3]);
      expect(pins.map(({ pa }) => pa)).toEqual([0n, 2n, 3n].map((page) => lookup(mm, at0 + page * 4096n)?.pa));
      await expect(mm.pin(at0 + 6n * 4096n, true, false, 100)).rejects.toThrow("EFAULT");
      for (const pin of [...pins, third]) pin.unpin();
    }));

  it("in a huge page holds one page of it, and fork splits the block around it", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: 0x20_0000, address: at0 });
      await mm.madvise(at0, 0x20_0000, "hugepage");
      const pin = await mm.pin(at0 + 0x5000n, true);
      expect(pin.pa).toBe(lookup(mm, at0 + 0x5000n)?.pa);
      const child = await mm.fork("pid 8");
      expect([lookup(mm, at0)?.shift, lookup(child, at0)?.shift]).toEqual([12, 12]);
      expect((lookup(mm, at0 + 0x5000n)?.flags ?? 0) & PageFlag.WRITE).toBe(PageFlag.WRITE);
      await child.mmput();
      pin.unpin();
    }));
});

describe("fork", () => {
  it("takes back what it had done when memory runs out", async () => {
    let fail = false;
    await withMm(
      async (mm) => {
        await mm.mmap({ length: 4 * 4096, address: at0, populate: true });
        const pins = [await mm.pin(at0, true), await mm.pin(at0 + 4096n, true)];
        fail = true;
        await expect(mm.fork("pid 8")).rejects.toThrow("ENOMEM");
        fail = false;
        expect(await mm.write(at0 + 3n * 4096n, Uint8Array.of(1))).toBe(1);
        for (const pin of pins) pin.unpin();
      },
      { failAlloc: (owner) => fail && owner === "pid 8 anon" },
    );
  });
});
