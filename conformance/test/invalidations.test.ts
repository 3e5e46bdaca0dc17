/**
 * What each mm operation invalidates of a bound process, on both IOMMUs (C2, C3, C8, I-7): what it takes away and no more,
 * the TLB before the device's ATC, and both before a page is free. What takes nothing away sends nothing.
 */
import {
  type AddressSpace,
  AddressSpaces,
  createPlatform,
  IOMMU_SVA_FEAT_IOPF,
  type IommuPlugin,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, type PciDevice } from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";

const BDF = "0000:01:00.0";
const PAGE = 4096;
const BLOCK = 512;
/** Pages of the window that process and device have written to. */
const TOUCHED = 16;

const backends: readonly [string, () => IommuPlugin][] = [
  ["smmuv3", smmuv3],
  ["vtd", vtd],
];

async function setup(iommu: IommuPlugin, sva: "seed" | "mainline") {
  const platform = await createPlatform({ iommus: [iommu], devices: [accelerator({ bdf: BDF })], sva });
  const dev = platform.device(BDF);
  const { dma } = dev.pci as PciDevice;
  const task = platform.kernel.spawn();
  const mm = task.mm as AddressSpace;
  const { pasid, at } = await platform.run(async () => {
    dev.pci.writeConfig(4, 2, 6);
    await platform.sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
    return {
      pasid: await platform.sva.iommuSvaBindDevice(dev, mm, IOMMU_SVA_FEAT_IOPF),
      at: await mm.mmap({ length: 2 * BLOCK * PAGE }),
    };
  });
  /** Address of a page of the window, which begins on a 2 MiB border. */
  const va = (page: number) => at + BigInt(page * PAGE);
  const write = async (page: number) => {
    expect((await dma.write(pasid, va(page), Uint8Array.of(page + 1))).done).toBe(1);
  };
  await platform.run(async () => {
    for (let page = 0; page < TOUCHED; page++) await write(page);
  });
  /** "TLB", "ATC page+count" and "free", in the order in which they happen; one after another alike are one. */
  const invalidations = async (body: () => Promise<unknown>) => {
    const seen: string[] = [];
    const note = (what: string) => void (seen.at(-1) === what || seen.push(what));
    const stop = platform.trace.subscribe((event) => {
      if (event.name === "cache:invalidated" && /tlb/i.test(event.cache)) note("TLB");
      else if (event.name === "ats:invalidated")
        note(`ATC ${Number(event.address - at) / PAGE}+${Number(event.size) / PAGE}`);
      else if (event.name === "page:freed" && /anon|data/.test(event.owner)) note("free");
    });
    await body();
    stop();
    return seen;
  };
  return { platform, task, mm, va, write, invalidations };
}

type Setup = Awaited<ReturnType<typeof setup>>;
type Operation = (m: Setup) => Promise<unknown>;

/** What goes, as the ATC hears of it, and whether pages become free. */
const taken: readonly [what: string, operation: Operation, seen: readonly string[]][] = [
  ["munmap of two pages", ({ mm, va }) => mm.munmap(va(2), 2 * PAGE), ["TLB", "ATC 2+2", "free"]],
  ["munmap of one page", ({ mm, va }) => mm.munmap(va(15), PAGE), ["TLB", "ATC 15+1", "free"]],
  ["munmap from the middle of a block of four", ({ mm, va }) => mm.munmap(va(5), 2 * PAGE), ["TLB", "ATC 4+4", "free"]],
  ["munmap of touched and untouched pages", ({ mm, va }) => mm.munmap(va(8), 64 * PAGE), ["TLB", "ATC 8+8", "free"]],
  [
    "mmap over it",
    ({ mm, va }) => mm.mmap({ address: va(4), fixed: true, length: 4 * PAGE }),
    ["TLB", "ATC 4+4", "free"],
  ],
  ["mprotect to read-only", ({ mm, va }) => mm.mprotect(va(2), 2 * PAGE, "r"), ["TLB", "ATC 2+2"]],
  ["mprotect to nothing", ({ mm, va }) => mm.mprotect(va(8), 4 * PAGE, "none"), ["TLB", "ATC 8+4"]],
  ["madvise dontneed", ({ mm, va }) => mm.madvise(va(8), 8 * PAGE, "dontneed"), ["TLB", "ATC 8+8", "free"]],
  ["mremap elsewhere", ({ mm, va }) => mm.mremap(va(4), 4 * PAGE, 4 * PAGE, { to: va(100) }), ["TLB", "ATC 4+4"]],
  ["mremap to less", ({ mm, va }) => mm.mremap(va(8), 8 * PAGE, 4 * PAGE), ["TLB", "ATC 12+4", "free"]],
  ["fork: what was writable", async ({ task }) => (await task.fork()).pid, ["TLB", "ATC 0+16"]],
  ["page aging", ({ mm, va }) => mm.age(va(4), 4 * PAGE), ["TLB", "ATC 4+4"]],
  [
    "a page that becomes another's (KSM): protected, then exchanged,",
    ({ mm, va }) => sameContents(mm, va(8), va(9)),
    ["TLB", "ATC 8+1", "TLB", "ATC 9+1", "TLB", "ATC 9+1", "TLB", "ATC 9+1", "free"],
  ],
  ["collapse into 2 MiB", ({ mm, va }) => mm.collapse(va(0)), ["TLB", "ATC 0+512", "free"]],
];

async function sameContents(mm: AddressSpace, kept: bigint, merged: bigint): Promise<void> {
  for (const at of [kept, merged]) await mm.write(at, Uint8Array.of(1));
  expect(await mm.merge(kept, merged)).toBe(true);
}

const nothing: readonly [what: string, operation: Operation][] = [
  ["munmap of pages that nobody touched", ({ mm, va }) => mm.munmap(va(64), 64 * PAGE)],
  ["mprotect to what it is", ({ mm, va }) => mm.mprotect(va(2), 2 * PAGE, "rw")],
  ["mprotect of pages that nobody touched", ({ mm, va }) => mm.mprotect(va(64), 2 * PAGE, "r")],
  ["madvise hugepage", ({ mm, va }) => mm.madvise(va(0), BLOCK * PAGE, "hugepage")],
  ["madvise dontneed of pages that nobody touched", ({ mm, va }) => mm.madvise(va(64), 8 * PAGE, "dontneed")],
  ["page aging of pages that nobody touched", ({ mm, va }) => mm.age(va(64), 8 * PAGE)],
  ["mmap elsewhere, and the CPU's faults there", ({ mm }) => mm.mmap({ length: 16 * PAGE, populate: true })],
  ["a CPU's store to a page that is there", ({ mm, va }) => mm.write(va(3), Uint8Array.of(9))],
  ["mlock", ({ mm, va }) => mm.mlock(va(0), 32 * PAGE)],
  [
    "what another process does",
    async ({ platform }) => {
      const other = platform.kernel.spawn();
      const mm = other.mm as AddressSpace;
      const at = await mm.mmap({ length: 4 * PAGE, populate: true });
      await mm.mprotect(at, 4 * PAGE, "r");
      await mm.munmap(at, PAGE);
      await other.exit();
    },
  ],
];

describe.each(backends)("a bound process behind %s", (_name, iommu) => {
  it.each(taken)(
    "%s invalidates exactly that, TLB then ATC then the page (C2) (C3) (C8) (I-7)",
    async (_what, operation, seen) => {
      const m = await setup(iommu(), "seed");
      await m.platform.run(async () => expect(await m.invalidations(() => operation(m))).toEqual(seen));
      expect(await m.platform.close()).toEqual([]);
    },
  );

  it.each(nothing)("%s invalidates nothing (C2)", async (_what, operation) => {
    const m = await setup(iommu(), "mainline");
    await m.platform.run(async () => {
      const seen = await m.invalidations(() => operation(m));
      expect(seen.filter((what) => what !== "free")).toEqual([]);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("a device's first store to a page takes nothing out of its ATC (C2)", async () => {
    const m = await setup(iommu(), "seed");
    await m.platform.run(async () => {
      // A page request of VT-d drops what the IOTLB holds for the page by itself (6.5.3.1).
      const seen = await m.invalidations(() => m.write(700));
      expect(seen.filter((what) => what.startsWith("ATC"))).toEqual([]);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("breaking copy-on-write takes the one page away, before and after the copy; CPU or device (C2) (C3)", async () => {
    const m = await setup(iommu(), "seed");
    await m.platform.run(async () => {
      const child = await m.task.fork();
      const stores: [page: number, store: () => Promise<unknown>][] = [
        [3, () => m.mm.write(m.va(3), Uint8Array.of(9))],
        [4, () => m.write(4)],
      ];
      for (const [page, store] of stores) {
        const seen = await m.invalidations(store);
        expect(new Set(seen)).toEqual(new Set(["TLB", `ATC ${page}+1`]));
        expect(seen[0]).toBe("TLB");
      }
      await child.exit();
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("a split takes the whole block away: its entry goes (C2)", async () => {
    const m = await setup(iommu(), "seed");
    await m.platform.run(async () => {
      await m.mm.collapse(m.va(0));
      await m.write(5);
      expect(await m.invalidations(() => m.mm.split(m.va(0)))).toEqual(["TLB", "ATC 0+512"]);
      await m.write(5);
    });
    expect(await m.platform.close()).toEqual([]);
  });

  it("a file that gets shorter takes its pages out (C2)", async () => {
    const m = await setup(iommu(), "seed");
    await m.platform.run(async () => {
      const file = m.platform.resolve<AddressSpaces>(AddressSpaces).createFile("data", 4 * PAGE);
      await m.mm.mmap({ address: m.va(0), fixed: true, length: 4 * PAGE, file, shared: true });
      for (let page = 0; page < 4; page++) await m.write(page);
      expect(await m.invalidations(() => file.truncate(2 * PAGE))).toEqual(["TLB", "ATC 2+2", "free"]);
      file.close();
    });
    expect(await m.platform.close()).toEqual([]);
  });
});
