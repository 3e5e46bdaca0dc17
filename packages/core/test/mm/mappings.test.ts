import { describe, expect, it } from "vitest";
import { Access, type AddressSpace, PageFlag } from "../../src/index.js";
import { Listener, lookup, readBytes, withMm } from "./world.js";

const at0 = 0x4000_0000n;
const pages = (count: number) => count * 4096;
const span = (first: bigint, count: number) =>
  `0x${first.toString(16)}-0x${(first + BigInt(pages(count))).toString(16)}`;

/** "40000-40003 rw-", as /proc/PID/maps without the zeros. */
function maps(mm: AddressSpace): string[] {
  return mm.vmas().map((vma) => {
    const perms = `${vma.read ? "r" : "-"}${vma.write ? "w" : "-"}${vma.exec ? "x" : "-"}${vma.shared ? "s" : "p"}`;
    return `${(vma.start >> 12n).toString(16)}-${(vma.end >> 12n).toString(16)} ${perms}${vma.name && ` ${vma.name}`}`;
  });
}

function listen(mm: AddressSpace): string[] {
  const listener = new Listener();
  mm.registerNotifier(listener);
  return listener.heard;
}

describe("mmap(2)", () => {
  it("places mappings downwards and joins equal neighbours", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(2) });
      await mm.mmap({ length: 100 });
      await mm.mmap({ length: pages(1), prot: "r" });
      expect(maps(mm)).toEqual(["7ffff7ffb-7ffff7ffc r--p", "7ffff7ffc-7ffff7fff rw-p"]);
    }));

  it("takes a hint when it is free, replaces with fixed, and refuses with noreplace", () =>
    withMm(async (mm) => {
      expect(await mm.mmap({ length: pages(4), address: at0 })).toBe(at0);
      await mm.write(at0, Uint8Array.of(7));
      expect(await mm.mmap({ length: pages(1), address: at0 })).not.toBe(at0);
      await expect(mm.mmap({ length: pages(1), address: at0, fixed: "noreplace" })).rejects.toThrow("EEXIST");
      await mm.mmap({ length: pages(1), address: at0, fixed: true, prot: "r" });
      expect(await readBytes(mm, at0, 1)).toEqual([0]);
      expect(maps(mm).slice(0, 2)).toEqual(["40000-40001 r--p", "40001-40004 rw-p"]);
    }));

  it("refuses nothing, holes, odd places and the end of user addresses with EINVAL, and what is too large with ENOMEM", () =>
    withMm(async (mm) => {
      for (const length of [0, -4096, Number.NaN]) await expect(mm.mmap({ length })).rejects.toThrow("EINVAL");
      await expect(mm.mmap({ length: 1, address: 0x123n, fixed: true })).rejects.toThrow("EINVAL");
      await expect(mm.mmap({ length: 4096, address: 0x7fff_ffff_f000n, fixed: true })).rejects.toThrow("EINVAL");
      await expect(mm.mmap({ length: 4096, offset: 5 })).rejects.toThrow("EINVAL");
      await expect(mm.mmap({ length: 2 ** 47 })).rejects.toThrow("ENOMEM");
      await expect(mm.munmap(at0 + 1n, 4096)).rejects.toThrow("EINVAL");
      await expect(mm.munmap(at0, 0)).rejects.toThrow("EINVAL");
      await mm.munmap(at0, 4096);
    }));

  it("is cheap for an address range that nobody touches", () =>
    withMm(async (mm) => {
      const at = await mm.mmap({ length: 2 ** 45 });
      await mm.write(at + 2n ** 44n, Uint8Array.of(1));
      lookup(mm, at);
      await mm.munmap(at, 2 ** 45);
      expect(mm.pageTable("x86-64").bytes).toBe(4096);
    }));
});

describe("mprotect(2)", () => {
  it("takes rights away at once, everywhere, and gives them back when somebody writes", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(4), address: at0, populate: true });
      lookup(mm, at0);
      const heard = listen(mm);
      await mm.mprotect(at0 + 4096n, pages(2), "r");
      expect(heard).toEqual([`invalidateRange ${span(at0 + 4096n, 2)}`]);
      expect([0n, 1n, 2n, 3n].map((page) => (lookup(mm, at0 + page * 4096n)?.flags ?? 0) & PageFlag.WRITE)).toEqual([
        1, 0, 0, 1,
      ]);
      expect(await mm.write(at0 + 4096n, Uint8Array.of(1))).toBe(0);
      expect(maps(mm)).toHaveLength(3);
      await mm.mprotect(at0, pages(4), "rw");
      expect(maps(mm)).toEqual(["40000-40004 rw-p"]);
      const before = lookup(mm, at0 + 4096n)?.pa;
      expect(await mm.write(at0 + 4096n, Uint8Array.of(1))).toBe(1);
      expect(lookup(mm, at0 + 4096n)?.pa).toBe(before);
    }));

  it("to none hides the pages and keeps their content", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(2), address: at0 });
      await mm.write(at0, Uint8Array.of(5));
      lookup(mm, at0);
      const heard = listen(mm);
      await mm.mprotect(at0, pages(2), "none");
      expect(heard).toEqual([`invalidateRange ${span(at0, 1)}`]);
      expect(lookup(mm, at0)).toBeUndefined();
      expect([await mm.fault(at0, Access.READ), await readBytes(mm, at0, 1)]).toEqual(["segv", []]);
      await mm.mprotect(at0, pages(2), "r");
      expect(lookup(mm, at0)?.flags).toBe(PageFlag.USER | PageFlag.ACCESSED | PageFlag.DIRTY);
      expect(await readBytes(mm, at0, 1)).toEqual([5]);
      expect(heard).toHaveLength(1);
    }));

  it("says nothing to anybody when no page is resident", () =>
    withMm(async (mm) => {
      const heard = listen(mm);
      await mm.mmap({ length: pages(4), address: at0 });
      await mm.mprotect(at0, pages(4), "r");
      await mm.munmap(at0, pages(4));
      expect(heard).toEqual([]);
    }));

  it("refuses a range with a hole, with nothing changed", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(3), address: at0 });
      await mm.munmap(at0 + 4096n, 4096);
      await expect(mm.mprotect(at0, pages(3), "r")).rejects.toThrow("ENOMEM");
      expect(maps(mm)).toEqual(["40000-40001 rw-p", "40002-40003 rw-p"]);
    }));
});

describe("mremap(2)", () => {
  it("moves pages with their content: the old place is told before the new one appears", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(2), address: at0 });
      await mm.write(at0, Uint8Array.of(1));
      const pa = lookup(mm, at0)?.pa;
      const listener = new Listener();
      listener.meanwhile = async (callback) => {
        if (callback === "release") return;
        expect([lookup(mm, at0), lookup(mm, at0 + 0x10_0000n)]).toEqual([undefined, undefined]);
      };
      mm.registerNotifier(listener);
      expect(await mm.mremap(at0, pages(2), pages(3), { to: at0 + 0x10_0000n })).toBe(at0 + 0x10_0000n);
      expect(listener.heard).toEqual([`invalidateRange ${span(at0, 1)}`]);
      expect([lookup(mm, at0), lookup(mm, at0 + 0x10_0000n)?.pa]).toEqual([undefined, pa]);
      expect(maps(mm)).toEqual(["40100-40103 rw-p"]);
    }));

  it("grows in place when there is room, moves when there is none, and shrinks", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(2), address: at0 });
      expect(await mm.mremap(at0, pages(2), pages(4))).toBe(at0);
      await mm.mmap({ length: pages(1), address: at0 + 0x4000n, prot: "r" });
      await expect(mm.mremap(at0, pages(4), pages(5), { mayMove: false })).rejects.toThrow("ENOMEM");
      await mm.write(at0 + 0x3000n, Uint8Array.of(9));
      const moved = await mm.mremap(at0, pages(4), pages(5));
      expect(moved).not.toBe(at0);
      expect(await readBytes(mm, moved + 0x3000n, 1)).toEqual([9]);
      expect(await mm.mremap(moved, pages(5), pages(1))).toBe(moved);
      expect(maps(mm)).toHaveLength(2);
    }));

  it("refuses what is not one mapping (EFAULT) and overlapping places (EINVAL)", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(2), address: at0 });
      await expect(mm.mremap(at0, pages(3), pages(4))).rejects.toThrow("EFAULT");
      await expect(mm.mremap(at0, pages(2), pages(2), { to: at0 + 4096n })).rejects.toThrow("EINVAL");
      await mm.write(at0, Uint8Array.of(7));
      for (const to of [at0 + 8192n, at0]) {
        const from = mm.vmas()[0].start;
        expect(await mm.mremap(from, pages(2), pages(2), { to })).toBe(to);
        expect(await readBytes(mm, to, 1)).toEqual([7]);
      }
    }));
});

describe("madvise(2)", () => {
  it("dontneed gives zeros afterwards and tells the devices", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(3), address: at0 });
      await mm.write(at0, new Uint8Array(pages(3)).fill(1));
      const heard = listen(mm);
      await mm.madvise(at0 + 4096n, 4096, "dontneed");
      expect(heard).toEqual([`invalidateRange ${span(at0 + 4096n, 1)}`]);
      expect(await readBytes(mm, at0 + 4095n, 2)).toEqual([1, 0]);
      await expect(mm.madvise(at0, pages(4), "dontneed")).rejects.toThrow("ENOMEM");
      await mm.mlock(at0, 4096);
      await expect(mm.madvise(at0, 4096, "dontneed")).rejects.toThrow("EINVAL");
    }));

  it("dontfork leaves a mapping out of the child", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(2), address: at0 });
      await mm.madvise(at0, 4096, "dontfork");
      const child = await mm.fork("child");
      expect(maps(child)).toEqual(["40001-40002 rw-p"]);
      await mm.madvise(at0, 4096, "dofork");
      expect(maps(mm)).toEqual(["40000-40002 rw-p"]);
      await child.mmput();
    }));
});

describe("fork(2)", () => {
  it("does not lock the child's memory", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(2), address: at0, locked: true });
      const child = await mm.fork("child");
      await child.madvise(at0, 4096, "dontneed");
      await child.munmap(at0, pages(2));
      expect([mm.lockedVm, child.lockedVm]).toEqual([2, 0]);
      await child.mmput();
    }));
});

describe("brk, stacks and guard pages", () => {
  it("moves the end of the heap by bytes and the mapping by pages", () =>
    withMm(async (mm) => {
      const start = await mm.brk();
      expect(await mm.brk(start + 5000n)).toBe(start + 5000n);
      expect(maps(mm)).toEqual(["555555560-555555562 rw-p [heap]"]);
      await mm.write(start, new Uint8Array(5000).fill(3));
      expect(await mm.brk(start + 100n)).toBe(start + 100n);
      expect(await mm.write(start + 4096n, Uint8Array.of(1))).toBe(0);
      expect(await mm.brk(start - 4096n)).toBe(start + 100n);
      await mm.mmap({ length: 4096, address: start + 0x2000n });
      expect(await mm.brk(start + 0x4000n)).toBe(start + 100n);
    }));

  it("a stack grows under the CPU, not under a device (S-17), and not into its neighbour", () =>
    withMm(async (mm) => {
      const stack = await mm.mmap({ length: pages(2), growsDown: true, name: "[stack]" });
      expect(await mm.fault(stack - 4096n, Access.WRITE)).toBe("segv");
      expect(await mm.write(stack - 8192n, Uint8Array.of(1))).toBe(1);
      expect(maps(mm)).toEqual(["7fffffffb-7ffffffff rw-p [stack]"]);
      expect(await mm.fault(stack - 4096n, Access.WRITE)).toBe("ok");
      expect(await mm.write(stack - 0x90_0000n, Uint8Array.of(1))).toBe(0);
      await mm.mmap({ length: 4096, address: stack - 0x4_0000n });
      expect(await mm.write(stack - 0x3_0000n, Uint8Array.of(1))).toBe(0);
    }));

  it.each([
    [256, 1],
    [255, 0],
  ])("a stack keeps 256 pages away from its neighbour: with %i, %i byte is written", (gap, done) =>
    withMm(async (mm) => {
      const stack = await mm.mmap({ length: pages(2), growsDown: true });
      await mm.mmap({ length: 4096, address: stack - BigInt(pages(gap + 2)), fixed: true });
      expect(await mm.write(stack - 4096n, Uint8Array.of(1))).toBe(done);
    }),
  );

  it("a stack grows to RLIMIT_STACK, and not by a page more", () =>
    withMm(
      async (mm) => {
        const stack = await mm.mmap({ length: pages(2), growsDown: true });
        expect(await mm.write(stack - 4096n, Uint8Array.of(1))).toBe(1);
        expect(await mm.write(stack - 4097n, Uint8Array.of(1))).toBe(0);
      },
      { stackLimit: pages(3) },
    ));

  it("a guard page ends a CPU's copy where it begins", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(3), address: at0 });
      await mm.mprotect(at0 + 4096n, 4096, "none");
      expect(await mm.write(at0 + 4000n, new Uint8Array(200))).toBe(96);
      expect(await readBytes(mm, at0 + 4000n, 200)).toHaveLength(96);
      expect(await mm.read(at0 + 4096n, new Uint8Array(1))).toBe(0);
    }));

  it("reads are allowed by any entry: a CPU reads what it may only write", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: 4096, address: at0, prot: "w" });
      expect(await readBytes(mm, at0, 1)).toEqual([0]);
      expect(await mm.fault(at0, Access.READ)).toBe("segv");
    }));
});

describe("mlock(2)", () => {
  it("faults in, counts pages once, and gives the count back with munlock and munmap", () =>
    withMm(async (mm) => {
      await mm.mmap({ length: pages(8), address: at0 });
      await mm.mlock(at0, pages(4));
      await mm.mlock(at0 + 4096n, pages(5));
      expect(mm.lockedVm).toBe(6);
      expect(mm.mappings.pages.size).toBe(6);
      await mm.munlock(at0, 4096);
      await mm.munmap(at0 + 4096n, pages(2));
      expect(mm.lockedVm).toBe(3);
      const moved = await mm.mremap(at0 + 0x3000n, pages(3), pages(5), { to: at0 + 0x10_0000n });
      expect(mm.lockedVm).toBe(5);
      const child = await mm.fork("child");
      expect(child.lockedVm).toBe(0);
      await child.mmput();
      await mm.munmap(moved, pages(5));
      expect(mm.lockedVm).toBe(0);
      await mm.mmap({ length: pages(2), locked: true });
      expect([mm.lockedVm, mm.mappings.pages.size]).toEqual([2, 3]);
      const guard = await mm.mmap({ length: 4096, shared: true });
      await mm.mprotect(guard, 4096, "none");
      await mm.mlock(guard, 4096);
    }));
});
