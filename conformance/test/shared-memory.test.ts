/**
 * A process and its device share memory, on both IOMMUs: stores are seen both ways, whatever mm operation comes between
 * (C2, I-1), and every kind of fault has its answer (E7). The device holds a translation in its ATC each time.
 */
import {
  Access,
  type AddressSpace,
  AddressSpaces,
  createPlatform,
  IOMMU_SVA_FEAT_IOPF,
  type IommuPlugin,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, dmaStatusName, type PciDevice } from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";

const BDF = "0000:01:00.0";
const PAGE = 4096;
const BLOCK = 2 ** 21;

const backends: readonly [string, () => IommuPlugin][] = [
  ["smmuv3", smmuv3],
  ["vtd", vtd],
];

async function setup(iommu: IommuPlugin) {
  const platform = await createPlatform({
    iommus: [iommu],
    devices: [accelerator({ bdf: BDF, pasid: { execute: true, privileged: true } })],
    pages: { poison: 0x6b },
  });
  const dev = platform.device(BDF);
  const { dma } = dev.pci as PciDevice;
  const mm = platform.kernel.spawn().mm as AddressSpace;
  const pasid = await platform.run(async () => {
    dev.pci.writeConfig(4, 2, 6);
    await platform.sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async () => 0);
    return platform.sva.iommuSvaBindDevice(dev, mm, IOMMU_SVA_FEAT_IOPF);
  });
  const deviceRead = async (at: bigint, access = 0) => {
    const bytes = new Uint8Array(1);
    const { status } = await dma.read(pasid, at, bytes, { access });
    return dmaStatusName(status) === "OK" ? bytes[0] : dmaStatusName(status);
  };
  const deviceWrite = async (at: bigint, value: number) =>
    dmaStatusName((await dma.write(pasid, at, Uint8Array.of(value))).status);
  const store = (at: bigint, value: number) => mm.write(at, Uint8Array.of(value));
  const load = async (at: bigint) => {
    const bytes = new Uint8Array(1);
    return (await mm.read(at, bytes)) === 1 ? bytes[0] : undefined;
  };
  /** Runs in the machine, and checks that nothing is left. */
  const run = async (body: () => Promise<void>) => {
    await platform.run(body);
    expect(await platform.close()).toEqual([]);
  };
  return { platform, mm, pasid, deviceRead, deviceWrite, store, load, run };
}

type Setup = Awaited<ReturnType<typeof setup>>;

const MOVED = 64n * 4096n;

/** What happens to a page, what the device reads there then, and how far from the page it reads. */
const operations: readonly [string, (m: Setup, at: bigint) => Promise<unknown>, number | string, bigint?][] = [
  ["nothing", async () => {}, 7],
  ["munmap", ({ mm }, at) => mm.munmap(at, PAGE), "INVALID_PAGE"],
  ["mprotect to none", ({ mm }, at) => mm.mprotect(at, PAGE, "none"), "INVALID_PAGE"],
  ["mprotect to read-only", ({ mm }, at) => mm.mprotect(at, PAGE, "r"), 7],
  ["mremap, at the new place", ({ mm }, at) => mm.mremap(at, PAGE, PAGE, { to: at + MOVED }), 7, MOVED],
  ["mremap, at the old place", ({ mm }, at) => mm.mremap(at, PAGE, PAGE, { to: at + MOVED }), "INVALID_PAGE"],
  ["madvise dontneed", ({ mm }, at) => mm.madvise(at, PAGE, "dontneed"), 0],
  ["collapse into a huge page", async ({ mm }, at) => expect(await mm.collapse(at)).toBe(true), 7],
  [
    "collapse and split",
    async ({ mm, deviceRead }, at) => {
      expect(await mm.collapse(at)).toBe(true);
      expect(await deviceRead(at)).toBe(7);
      await mm.split(at);
    },
    7,
  ],
];

describe.each(backends)("a process and its device behind %s", (_name, iommu) => {
  it("see each other's stores at once (C2)", async () => {
    const m = await setup(iommu());
    await m.run(async () => {
      const at = await m.mm.mmap({ length: PAGE });
      for (let value = 1; value < 200; value += 2) {
        await m.store(at, value);
        expect(await m.deviceRead(at)).toBe(value);
        expect(await m.deviceWrite(at, value + 1)).toBe("OK");
        expect(await m.load(at)).toBe(value + 1);
      }
    });
  });

  it.each(operations)(
    "after %s the device sees what the process sees (C2, I-1)",
    async (_what, operation, expected, offset = 0n) => {
      const m = await setup(iommu());
      await m.run(async () => {
        const at = await m.mm.mmap({ length: BLOCK });
        expect(await m.deviceWrite(at, 7)).toBe("OK");
        await operation(m, at);
        expect(await m.deviceRead(at + offset)).toBe(expected);
      });
    },
  );

  it("write nothing after mprotect to read-only, and again after it is writable (C2, E7)", async () => {
    const m = await setup(iommu());
    await m.run(async () => {
      const at = await m.mm.mmap({ length: PAGE });
      expect(await m.deviceWrite(at, 1)).toBe("OK");
      await m.mm.mprotect(at, PAGE, "r");
      expect(await m.deviceWrite(at, 2)).toBe("INVALID_PAGE");
      await m.mm.mprotect(at, PAGE, "rw");
      expect(await m.deviceWrite(at, 3)).toBe("OK");
      expect(await m.load(at)).toBe(3);
    });
  });

  it.each(["parent", "device"])("part from a forked child when the %s writes first (C2)", async (who) => {
    const m = await setup(iommu());
    await m.run(async () => {
      const at = await m.mm.mmap({ length: PAGE });
      expect(await m.deviceWrite(at, 1)).toBe("OK");
      const child = await m.mm.fork("child");
      await (who === "parent" ? m.store(at, 2) : m.deviceWrite(at, 2));
      expect(await m.deviceRead(at)).toBe(2);
      const bytes = new Uint8Array(1);
      await child.read(at, bytes);
      expect(bytes[0]).toBe(1);
      await child.write(at, Uint8Array.of(9));
      expect(await m.deviceRead(at)).toBe(2);
      await child.mmput();
    });
  });

  it("share a file, and lose what is cut off (E7)", async () => {
    const m = await setup(iommu());
    await m.run(async () => {
      const file = m.platform.resolve<AddressSpaces>(AddressSpaces).createFile("data", 2 * PAGE);
      const at = await m.mm.mmap({ length: 2 * PAGE, file, shared: true });
      const second = at + BigInt(PAGE);
      expect(await m.deviceWrite(second, 5)).toBe("OK");
      const bytes = new Uint8Array(1);
      file.read(PAGE, bytes);
      expect(bytes[0]).toBe(5);
      await file.truncate(PAGE);
      expect(await m.deviceRead(second)).toBe("INVALID_PAGE");
      expect(await m.deviceRead(at)).toBe(0);
      file.close();
    });
  });

  it("differ in what may grow the stack, and both stop at a guard page (E7, S-17)", async () => {
    const m = await setup(iommu());
    await m.run(async () => {
      const stack = await m.mm.mmap({ length: PAGE, growsDown: true, name: "[stack]" });
      const below = stack - BigInt(PAGE);
      expect(await m.deviceWrite(below, 1)).toBe("INVALID_PAGE");
      await m.store(below, 2);
      expect(await m.deviceRead(below)).toBe(2);
      const guarded = await m.mm.mmap({ length: 2 * PAGE });
      await m.mm.mprotect(guarded, PAGE, "none");
      expect(await m.deviceRead(guarded)).toBe("INVALID_PAGE");
      expect(await m.load(guarded)).toBeUndefined();
      expect(await m.deviceRead(guarded + BigInt(PAGE))).toBe(0);
    });
  });

  it("never execute what is not executable (E7)", async () => {
    const m = await setup(iommu());
    await m.run(async () => {
      const at = await m.mm.mmap({ length: PAGE });
      await m.store(at, 1);
      expect(await m.deviceRead(at, Access.EXEC)).not.toBe(1);
    });
  });
});
