/** What each injection changes, beside the same machine without it. */
import { type AddressSpace, createPlatform, IommuError, NO_PASID, type Platform } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, DmaStatus, type PciDevice } from "@iommukit/pci-device";
import { VfioContainer, vfioType1 } from "@iommukit/vfio-type1";
import { describe, expect, it } from "vitest";
import { INJECTIONS, parseInjections } from "../../src/run/injections.js";

const BDF = "0000:01:00.0";
const IOVA = 0x10_0000n;
const PAGE = 4096;
const BACKENDS = [
  ["smmuv3", smmuv3],
  ["vtd", vtd],
] as const;

interface Program {
  readonly platform: Platform;
  readonly memory: AddressSpace;
  readonly container: VfioContainer;
  readonly pci: PciDevice;
}

/** A program with the device, before it has mapped anything. */
async function withProgram<T>(
  backend: () => ReturnType<typeof vtd>,
  injected: readonly string[],
  body: (program: Program) => Promise<T>,
): Promise<T> {
  const devices = [accelerator({ bdf: BDF })];
  const platform = await createPlatform({ iommus: [backend()], devices, services: [vfioType1()] });
  for (const name of injected) INJECTIONS[name].apply(platform);
  return platform.run(async () => {
    const task = platform.kernel.spawn({ name: "program" });
    const container = await VfioContainer.open(task);
    await container.attach(platform.device(BDF).group?.id ?? -1);
    await container.setIommu();
    const pci = platform.device(BDF).pci as PciDevice;
    pci.writeConfig(4, 2, 6);
    return body({ platform, memory: task.memory, container, pci });
  });
}

/** On the machine as it is, and with the injection. */
async function both<T>(
  backend: () => ReturnType<typeof vtd>,
  name: string,
  body: (program: Program) => Promise<T>,
): Promise<readonly [T, T]> {
  return [await withProgram(backend, [], body), await withProgram(backend, [name], body)];
}

describe.each(BACKENDS)("behind %s", (_name, backend) => {
  it("unmap-race lets a device reach memory for 200 µs after UNMAP_DMA was called", async () => {
    const [plain, injected] = await both(backend, "unmap-race", async ({ platform, memory, container, pci }) => {
      const vaddr = await memory.mmap({ length: PAGE });
      await container.mapDma({ iova: IOVA, vaddr, size: PAGE });
      const statuses: number[] = [];
      for (const after of [100_000, 300_000])
        platform.scheduler.timer(after, () => {
          statuses.push(pci.dma.tryRead(NO_PASID, IOVA, new Uint8Array(8)));
        });
      await container.unmapDma({ iova: IOVA, size: PAGE });
      await platform.scheduler.sleep(400_000);
      return statuses.map((status) => status === DmaStatus.OK);
    });
    expect([plain, injected]).toEqual([
      [false, false],
      [true, false],
    ]);
  });

  it("ats-timeout makes an unmap's invalidation of the device time out", async () => {
    const [plain, injected] = await both(backend, "ats-timeout", async ({ platform, memory, container, pci }) => {
      const vaddr = await memory.mmap({ length: PAGE });
      const pasid = await container.bind();
      await pci.dma.write(pasid, vaddr, new Uint8Array(8));
      await memory.munmap(vaddr, PAGE);
      return platform.kernel.log.filter((line) => /time-?out/i.test(line));
    });
    expect(plain).toEqual([]);
    expect(injected[0]).toMatch(/Invalidation Time-out Error|CMD_SYNC timeout/);
  });

  it("page-response-loss leaves the tenth page request without its answer", async () => {
    const [plain, injected] = await both(
      backend,
      "page-response-loss",
      async ({ platform, memory, container, pci }) => {
        const vaddr = await memory.mmap({ length: 10 * PAGE });
        const pasid = await container.bind();
        const ended: number[] = [];
        for (let page = 0; page < 10; page++)
          platform.scheduler.spawn(`write ${page}`, async () => {
            await pci.dma.write(pasid, vaddr + BigInt(page * PAGE), new Uint8Array(8));
            ended.push(page);
          });
        await platform.scheduler.sleep(1_000_000);
        return ended.length;
      },
    );
    expect([plain, injected]).toEqual([10, 9]);
  });

  it("surprise-removal takes the device away after its tenth DMA", async () => {
    const [plain, injected] = await both(backend, "surprise-removal", async ({ platform, memory, container, pci }) => {
      const vaddr = await memory.mmap({ length: PAGE });
      await container.mapDma({ iova: IOVA, vaddr, size: PAGE });
      const ids: string[] = [];
      for (let count = 0; count < 11; count++) {
        ids.push(pci.readConfig(0, 4).toString(16));
        await pci.dma.read(NO_PASID, IOVA, new Uint8Array(8));
        await platform.scheduler.sleep(1000);
      }
      return ids;
    });
    expect(new Set(plain)).toEqual(new Set(["5a011234"]));
    expect(injected.slice(8)).toEqual(["5a011234", "5a011234", "ffffffff"]);
  });

  it("enomem answers a page request with Response Failure, after which the device may ask no more", async () => {
    const [plain, injected] = await both(backend, "enomem", async ({ memory, container, pci }) => {
      const vaddr = await memory.mmap({ length: 12 * PAGE });
      const pasid = await container.bind();
      const statuses: number[] = [];
      for (let page = 0; page < 12; page++) {
        const { status } = await pci.dma.write(pasid, vaddr + BigInt(page * PAGE), new Uint8Array(8));
        statuses.push(status);
      }
      return statuses.map((status) => status === DmaStatus.OK);
    });
    expect(plain).not.toContain(false);
    // The bond and eight requests, then the tenth allocation.
    expect(injected.indexOf(false)).toBe(8);
    expect(injected.slice(8)).not.toContain(true);
  });
});

describe("--inject", () => {
  it("tells injections from known bugs of drivers", () => {
    expect(parseInjections("L-1,unmap-race,,enomem")).toEqual({
      injections: ["unmap-race", "enomem"],
      variants: ["L-1"],
    });
  });

  it("unmap-race needs a container to race on", async () => {
    const bare = await createPlatform({ iommus: [vtd()] });
    expect(() => INJECTIONS["unmap-race"].apply(bare)).toThrow(IommuError);
  });
});
