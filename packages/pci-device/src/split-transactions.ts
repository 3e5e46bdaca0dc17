/**
 * A DMA whose transactions take time: between a translation and its use, and between use and data, other things may happen.
 * A translation that an invalidation raced with is thrown away and fetched again; one in use holds the invalidation's
 * completion back (PCIe 10.3.1).
 */
import type { Scheduler } from "@iommukit/core";
import type { AtsUnit } from "./ats-unit.js";
import { DmaStatus } from "./dma-status.js";
import type { DmaTransfer } from "./dma-transfer.js";

/** As `transfer.advance()`, with scheduling points. @param name of the function, for whoever explores */
export async function advanceSplit(transfer: DmaTransfer, scheduler: Scheduler, name: string): Promise<number> {
  while (!transfer.finished && !transfer.cancelled) {
    if (!transfer.permitted()) return DmaStatus.REFUSED;
    const ats = transfer.atsInUse();
    const fetched = ats === undefined ? DmaStatus.OK : await fetch(transfer, ats, scheduler, name);
    if (fetched !== DmaStatus.OK) return fetched;
    const status = await use(transfer, ats?.enabled ? ats : undefined, scheduler, name);
    if (status !== DmaStatus.OK) return status;
  }
  return DmaStatus.OK;
}

/** Until the cache holds a translation, or there is none to have. */
async function fetch(transfer: DmaTransfer, ats: AtsUnit, scheduler: Scheduler, name: string): Promise<number> {
  while (ats.enabled && !transfer.cached(ats)) {
    // Its size is not known yet: any invalidation of the address space may be about it.
    const range = ats.atc.open("fetch", transfer.pasid, transfer.hi, transfer.lo, 64);
    const status = transfer.request(ats);
    await scheduler.point(`translation completion of ${name}`);
    ats.close(range);
    if (transfer.cancelled) return DmaStatus.CANCELLED;
    if (range.stale) continue;
    if (status !== DmaStatus.OK) return status;
    if (!transfer.keep(ats)) return DmaStatus.NOT_PRESENT;
  }
  return DmaStatus.OK;
}

async function use(
  transfer: DmaTransfer,
  ats: AtsUnit | undefined,
  scheduler: Scheduler,
  name: string,
): Promise<number> {
  if (ats === undefined) {
    // The IOMMU holds the completion of an invalidation back until the transactions that it has translated are done.
    await scheduler.point(`transaction of ${name}`);
    const status = transfer.cancelled ? DmaStatus.CANCELLED : transfer.untranslated();
    return status === DmaStatus.OK ? transfer.move() : status;
  }
  const range = ats.atc.open("use", transfer.pasid, transfer.hi, transfer.lo, ats.atc.shift);
  const status = transfer.useCached(ats);
  await scheduler.point(`data of ${name}`);
  const moved = status === DmaStatus.OK && !transfer.cancelled ? transfer.move() : status;
  ats.close(range);
  return moved;
}
