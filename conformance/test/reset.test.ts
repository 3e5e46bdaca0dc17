/**
 * A device is reset while processes are bound to it: alone (FLR), and with its neighbour through the bridge (hot reset). PASID, PRI
 * and ATS come back, and with them every bond; what runs meanwhile waits for nobody (I12, L-23).
 */
import { type AddressSpace, createPlatform, isErrno, type Task } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, dmaStatusName, type PciDevice, rootPort } from "@iommukit/pci-device";
import { VFIO_DEVICE_PCI_HOT_RESET, VfioContainer, type VfioDevice, vfioType1 } from "@iommukit/vfio-type1";
import { describe, expect, it } from "vitest";

const PAGE = 4096n;
const BDFS = ["0000:01:00.0", "0000:01:01.0"] as const;
const RESET_TIME = 100e6;
/** FLR and the time that a bus may take; far less than an invalidation that nobody answers. */
const PATIENCE = 2e9;

const cases = [
  ["smmuv3", smmuv3],
  ["vtd", vtd],
].flatMap(([name, iommu]) => (["seed", "mainline"] as const).map((sva) => ({ name, iommu, sva }))) as readonly {
  readonly name: string;
  readonly iommu: typeof smmuv3 | typeof vtd;
  readonly sva: "seed" | "mainline";
}[];

/** Two devices behind one port, both in one container, opened. */
async function running(
  { iommu, sva }: (typeof cases)[number],
  body: (m: Awaited<ReturnType<typeof open>>) => Promise<void>,
) {
  const platform = await createPlatform({
    iommus: [iommu()],
    devices: [
      rootPort({
        bdf: "0000:00:1c.0",
        secondary: 1,
        devices: BDFS.map((bdf) => accelerator({ bdf, resetTime: RESET_TIME })),
      }),
    ],
    services: [vfioType1()],
    sva,
    pages: { poison: 0x6b },
  });
  const faults: string[] = [];
  platform.trace.on("fault:recorded", ({ unit, fault }) => faults.push(`${unit}: ${fault}`));
  await platform.run(async () => body(await open(platform)));
  expect(faults).toEqual([]);
  expect(await platform.close()).toEqual([]);
}

async function open(platform: Awaited<ReturnType<typeof createPlatform>>) {
  const task = platform.kernel.spawn({ name: "program" });
  const container = await VfioContainer.open(task);
  const groups: number[] = [];
  const devices: VfioDevice[] = [];
  for (const bdf of BDFS) {
    const group = await container.attach(platform.device(bdf).group?.id ?? -1);
    if (groups.length === 0) await container.setIommu();
    groups.push(group.fd);
    devices.push(await group.device(bdf));
    await devices[devices.length - 1].enableBusMaster();
  }
  const pci = (n: number) => platform.device(BDFS[n]).pci as PciDevice;
  const store = async (n: number, pasid: number, at: bigint, value: number) =>
    dmaStatusName((await pci(n).dma.write(pasid, at, Uint8Array.of(value))).status);
  const mapped = (of: Task, pages: bigint) => (of.mm as AddressSpace).mmap({ length: Number(pages * PAGE) });
  const hotReset = () =>
    task.ioctl(
      devices[0].fd,
      VFIO_DEVICE_PCI_HOT_RESET,
      new Uint8Array(Int32Array.of(20, 0, 2, groups[0], groups[1]).buffer),
    );
  /** Runs beside what follows. @returns what waits for its end */
  const beside = (body: () => Promise<unknown>) => {
    const { scheduler } = platform;
    const thread = scheduler.spawn("beside", async () => void (await body()));
    return async () => {
      while (!thread.done) await scheduler.sleep(1e6);
    };
  };
  return { platform, task, container, devices, pci, store, mapped, hotReset, beside };
}

describe.each(cases)("a reset behind $name, core $sva", (one) => {
  it.each([
    ["FLR", (m: Awaited<ReturnType<typeof open>>) => m.devices[0].reset()],
    ["a hot reset", (m: Awaited<ReturnType<typeof open>>) => m.hotReset()],
  ])("by %s keeps every bond and mapping; nothing in the ATC outlives it", async (_how, reset) => {
    await running(one, async (m) => {
      const guest = m.platform.kernel.spawn({ name: "guest" });
      const [own, guests] = [await m.mapped(m.task, 4n), await m.mapped(guest, 4n)];
      const [pasid, guestPasid] = [await m.container.bind(), await m.container.bind({ pid: guest.pid })];
      await m.container.mapDma({ iova: 0x10_0000n, vaddr: own, size: PAGE });
      for (const n of [0, 1]) {
        expect(await m.store(n, pasid, own, 1)).toBe("OK");
        expect(await m.store(n, guestPasid, guests, 1)).toBe("OK");
      }
      const { scheduler } = m.platform;
      const done = m.beside(() => reset(m));
      await scheduler.sleep(RESET_TIME / 2);
      // The device is in the middle of it: memory goes, and nobody waits for its ATC.
      const start = scheduler.now;
      await (guest.mm as AddressSpace).munmap(guests, 4096);
      await m.container.unmapAll();
      expect(scheduler.now - start).toBeLessThan(PATIENCE);
      await done();
      expect(m.pci(0).ats?.atc.size).toBe(0);
      for (const n of [0, 1]) {
        expect([m.pci(n).pasid.enabled, m.pci(n).pri?.usable, m.pci(n).ats?.enabled]).toEqual([true, true, true]);
        expect(await m.store(n, pasid, own + PAGE, 2)).toBe("OK");
        expect(await m.store(n, guestPasid, guests + PAGE, 2)).toBe("OK");
      }
      const byte = new Uint8Array(1);
      await guest.mm?.read(guests + PAGE, byte);
      expect(byte[0]).toBe(2);
      await guest.exit();
    });
  });

  it("refuses a BIND meanwhile with EBUSY, as if it had not been asked; a process may exit", async () => {
    await running(one, async (m) => {
      const [guest, late] = [m.platform.kernel.spawn(), m.platform.kernel.spawn()];
      const pasid = await m.container.bind();
      await m.container.bind({ pid: guest.pid });
      const { scheduler } = m.platform;
      const done = m.beside(() => m.devices[0].reset());
      await scheduler.sleep(RESET_TIME / 2);
      const before = m.platform.sva.inUse().bonds;
      const refused = await m.container.bind({ pid: late.pid }).catch((error) => isErrno(error) && error.code);
      expect(refused).toBe("EBUSY");
      expect(m.platform.sva.inUse().bonds).toBe(before);
      const start = scheduler.now;
      await guest.exit();
      expect(scheduler.now - start).toBeLessThan(PATIENCE);
      await done();
      expect(await m.container.bind({ pid: late.pid })).toBeGreaterThan(0);
      expect(await m.store(0, pasid, await m.mapped(m.task, 1n), 3)).toBe("OK");
    });
  });

  it.each([
    ["waits for a transfer whose page comes in time; bus mastering is off by then", 10e6, "REFUSED"],
    [
      "gives up a transfer whose page does not come: its requests are forgotten, the late answer meets nobody",
      10e9,
      "CANCELLED",
    ],
  ])("%s (E16, pcie_flr)", async (_what, busy, expected) => {
    await running(one, async (m) => {
      const { scheduler } = m.platform;
      const memory = m.task.mm as AddressSpace;
      const at = await m.mapped(m.task, 2n);
      const pasid = await m.container.bind();
      const fault = m.beside(() => memory.mmapLock.with(() => scheduler.sleep(busy)));
      let outcome = "";
      const transfer = m.beside(async () => {
        outcome = await m.store(0, pasid, at, 1);
      });
      await scheduler.yield();
      await m.devices[0].reset();
      await transfer();
      expect([outcome, m.pci(0).pri?.outstanding]).toEqual([expected, 0]);
      await fault();
      await scheduler.idle();
      expect(await m.store(0, pasid, at + PAGE, 2)).toBe("OK");
      expect(m.pci(0).pri?.usable).toBe(true);
    });
  });
});
