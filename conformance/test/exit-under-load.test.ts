/**
 * A device that requests pages at full rate while its process exits, on both IOMMUs and both SVA cores: no fault is
 * recorded (C9, C10), every last page request has one answer (I-2), the PASID is free only after the drain (D3), and
 * nothing is left behind. IOMMUKIT_EXITS=1000 for more moments of the exit.
 */
import {
  type AddressSpace,
  createPlatform,
  IOMMU_SVA_FEAT_IOPF,
  type IommuPlugin,
  type TraceRecord,
} from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { AcceleratorClient, accelerator, encodeDescriptor } from "@iommukit/pci-device";
import { describe, expect, it } from "vitest";
import { random } from "./programs/operations.js";

const BDF = "0000:01:00.0";
const PAGE = 4096;
const PAGES = 64;

const backends: readonly [string, () => IommuPlugin][] = [
  ["smmuv3", smmuv3],
  ["vtd", vtd],
];

async function setup(iommu: IommuPlugin, sva: "seed" | "mainline") {
  const platform = await createPlatform({ iommus: [iommu], devices: [accelerator({ bdf: BDF })], sva });
  const dev = platform.device(BDF);
  const client = new AcceleratorClient(dev.pci);
  const events: TraceRecord[] = [];
  const unsubscribe = platform.trace.subscribe((record) => events.push(record));
  /** What a device driver's mm_exit does: the device forgets what it was doing for the process. */
  const stop = async (pasid: number) => {
    await client.startCommand("ABORT_PASID", pasid);
    while ((await client.commandStatus()).Active) await platform.scheduler.sleep(100);
  };
  await platform.run(async () => {
    dev.pci.writeConfig(4, 2, 6);
    await platform.sva.iommuSvaDeviceInit(dev, IOMMU_SVA_FEAT_IOPF, 0, async (_dev, pasid) => {
      await stop(pasid);
      return 0;
    });
    await client.enable();
    await client.enableQueue(0, { pasid: "submitter", mode: "shared", size: 64, threshold: 64 });
  });
  return { platform, sva: platform.sva, dev, client, events, unsubscribe, stop };
}

type Setup = Awaited<ReturnType<typeof setup>>;

/** A process with untouched memory, and descriptors that fill it page by page. */
async function load({ platform, sva, dev, client }: Setup) {
  const task = platform.kernel.spawn();
  const mm = task.mm as AddressSpace;
  const heap = await mm.mmap({ length: PAGES * PAGE });
  const pasid = await sva.bindDeviceLocked(dev, mm, IOMMU_SVA_FEAT_IOPF);
  for (let i = 0; i < 16; i++) {
    const fields = { Opcode: "MEMFILL", BlockOnFault: true, PASID: pasid } as const;
    const at = { Source: 0x5a5an, Destination: heap + BigInt(i * 4 * PAGE), TransferSize: 4 * PAGE };
    await client.submit(0, encodeDescriptor({ ...fields, ...at }));
  }
  return { task, pasid };
}

/** A last page request of the device (stop markers ask for nothing, E11). */
const asks = (event: TraceRecord) =>
  event.name === "pri:requested" && event.unit === BDF && event.last && event.access !== 0;

/** Groups that the device has asked for and nobody has answered, or that were answered more often than asked. */
function unpaired(events: readonly TraceRecord[]): string[] {
  const open = new Map<string, number>();
  for (const event of events) {
    if (event.name !== "pri:answered" && !asks(event)) continue;
    const { pasid, prgi } = event as TraceRecord & { readonly pasid: number; readonly prgi: number };
    const group = `PASID ${pasid}, group ${prgi}`;
    open.set(group, (open.get(group) ?? 0) + (asks(event) ? 1 : -1));
  }
  return [...open].filter(([, count]) => count !== 0).map(([group, count]) => `${group}: ${count}`);
}

/** What was asked with the PASID, or answered, after it had become free. */
function afterFree(events: readonly TraceRecord[], pasid: number): TraceRecord[] {
  const freed = events.findIndex((event) => event.name === "pasid:freed" && event.pasid === pasid);
  expect(freed).toBeGreaterThan(0);
  return events
    .slice(freed)
    .filter((event) => (asks(event) || event.name === "pri:answered") && "pasid" in event && event.pasid === pasid);
}

const EXITS = Number(process.env.IOMMUKIT_EXITS ?? 12);
const next = random(3);
/** Nanoseconds after the start; the device is done after some 30,000. */
const DELAYS = [0, 500, 2000, 5000, 20_000, ...Array.from({ length: Math.max(0, EXITS - 5) }, () => next(30_000))];

const named = (events: readonly TraceRecord[], name: TraceRecord["name"]) =>
  events.filter((event) => event.name === name);

describe.each(backends)("a process that exits under load on %s", (_name, iommu) => {
  it.each(DELAYS)(
    "leaves no fault, no open request, no bond; after %i ns (C9) (C10) (D3) (I-2) (L-9) (L-13)",
    async (delay) => {
      const m = await setup(iommu(), "seed");
      await m.platform.run(async () => {
        const { task, pasid } = await load(m);
        await m.platform.scheduler.sleep(delay);
        // Somebody who binds while the process exits never gets its PASID.
        const others: number[] = [];
        let exiting = true;
        m.platform.scheduler.spawn("other binder", async () => {
          while (exiting) {
            const other = m.platform.kernel.spawn();
            if (other.mm) others.push(await m.sva.bindDeviceLocked(m.dev, other.mm, IOMMU_SVA_FEAT_IOPF));
            await m.platform.scheduler.sleep(100);
          }
        });
        await task.exit();
        exiting = false;
        expect(others).not.toContain(pasid);
        await m.platform.scheduler.sleep(1_000_000);
        expect(named(m.events, "fault:recorded")).toEqual([]);
        expect(unpaired(m.events)).toEqual([]);
        expect(afterFree(m.events, pasid)).toEqual([]);
        const again = await load(m);
        expect(again.pasid).toBe(pasid);
        await m.platform.scheduler.sleep(1_000_000);
        for (const other of [...m.platform.kernel.tasks.values()]) await other.exit();
        expect(m.sva.inUse()).toEqual({ bonds: 0, pasids: 0, partials: 0 });
      });
      m.unsubscribe();
      expect(await m.platform.close()).toEqual([]);
    },
  );

  it("records no fault though nobody stops the device, until its owner unbinds it; mainline (A13) (C9) (C10)", async () => {
    const m = await setup(iommu(), "mainline");
    await m.platform.run(async () => {
      const { task, pasid } = await load(m);
      await m.platform.scheduler.sleep(2000);
      await task.exit();
      await m.platform.scheduler.sleep(1_000_000);
      expect(named(m.events, "fault:recorded")).toEqual([]);
      expect(unpaired(m.events)).toEqual([]);
      const other = await load(m);
      expect(other.pasid).not.toBe(pasid);
      await m.platform.scheduler.sleep(1_000_000);
      await other.task.exit();
      await m.stop(pasid);
      await m.stop(other.pasid);
      await m.sva.unbindDeviceAll(m.dev);
    });
    m.unsubscribe();
    expect(await m.platform.close()).toEqual([]);
  });
});
