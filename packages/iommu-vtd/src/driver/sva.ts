/**
 * Processes on devices: the ops of the 2018 series for VT-d. A bond is a first-stage entry in the device's PASID table that
 * points at the process's own x86-64 page table (VT-d 3.6, 9.6).
 */
import {
  type Device,
  IOMMU_SVA_FEAT_IOPF,
  type IoMm,
  type IoMmContext,
  IommuError,
  type Mm,
  type PageTable,
  type SvaOps,
  type SvaParam,
} from "@iommukit/core";
import { type Attachment, pasidTableOf } from "./attachment.js";
import { type AlignedRange, alignedRange } from "./descriptors.js";
import { disablePri, enablePri, mustShare } from "./device-features.js";
import { type DeviceInfo, infoOf } from "./device-info.js";
import { FLPT_DEFAULT_DID } from "./domain-ids.js";
import type { Invalidation } from "./invalidation.js";
import type { PageRequests } from "./page-requests.js";
import { missingForSva } from "./probe.js";
import type { Unit } from "./unit.js";

/** 2^64: the size that stands for a whole address space. */
const WHOLE = 1n << 64n;

/** The driver's state of one address space: where its page table is. */
class ProcessTable {
  constructor(readonly table: PageTable) {}
}

export class ProcessBinding {
  constructor(
    private readonly unit: Unit,
    private readonly ops: SvaOps,
    private readonly attachment: Attachment,
    private readonly invalidation: Invalidation,
    private readonly pageRequests: PageRequests,
  ) {}

  /**
   * PASID and ATS are on already; PRI is enabled for IOMMU_SVA_FEAT_IOPF, in the context entry before the function. PASID 0 is
   * free when another stands for requests without one. @throws IommuError ENODEV with what is missing, ENOSPC, or as PCI refuses
   */
  async deviceInit(dev: Device, param: SvaParam): Promise<void> {
    const info = infoOf(dev);
    const faults = (param.features & IOMMU_SVA_FEAT_IOPF) !== 0;
    mustShare(this.unit, info, faults);
    const { size } = pasidTableOf(info);
    if (faults) await this.#enablePageRequests(info);
    param.minPasid = Math.max(param.minPasid, info.ridPasid === 0 ? 1 : 0);
    param.maxPasid = Math.min(param.maxPasid, (info.ridPasid || size) - 1);
  }

  async #enablePageRequests(info: DeviceInfo): Promise<void> {
    const credits = this.pageRequests.reserve();
    try {
      await this.attachment.setPageRequests(info, credits);
      enablePri(info, credits);
    } catch (error) {
      this.pageRequests.release(credits);
      await this.attachment.setPageRequests(info, 0);
      throw error;
    }
  }

  /** The function's bonds are gone. Page requests that are still on the way are answered before PRI ends (E16). */
  async deviceShutdown(dev: Device): Promise<void> {
    const info = infoOf(dev);
    if (!info.priEnabled) return;
    disablePri(info);
    await this.pageRequests.drain(info, info.ridPasid, info.domain?.did ?? 0);
    this.pageRequests.release(info.priCredits);
    await this.attachment.setPageRequests(info, 0);
  }

  /** @throws IommuError EOPNOTSUPP the unit cannot walk the process's tables */
  async mmAlloc(mm: Mm): Promise<IoMmContext> {
    const table = mm.pageTable("x86-64");
    const [first] = missingForSva(this.unit.features, table.vaBits);
    if (first !== undefined)
      throw new IommuError("EOPNOTSUPP", `${mm.owner} cannot be shared behind ${this.unit.dmar}: ${first}`);
    return new ProcessTable(table);
  }

  async attach(dev: Device, ioMm: IoMm): Promise<void> {
    const { table } = ioMm.contexts.get(this.ops) as ProcessTable;
    const info = infoOf(dev);
    await pasidTableOf(info).create(ioMm.pasid, this.attachment.processEntry(table.root, table.levels));
    try {
      await this.invalidation.pasidEntryCreated(FLPT_DEFAULT_DID, ioMm.pasid);
    } catch (error) {
      await this.attachment.tearDownPasid(info, ioMm.pasid, false);
      throw error;
    }
  }

  /**
   * Nothing refers to the PASID when it returns. After an exit the entry stays silent until the PASID is bound again: VFIO
   * did not tell its device to stop, and what it still sends must not flood the fault log (S-10).
   */
  async detach(dev: Device, ioMm: IoMm): Promise<void> {
    const info = infoOf(dev);
    if (pasidTableOf(info).isSilent(ioMm.pasid)) await this.pageRequests.drain(info, ioMm.pasid, FLPT_DEFAULT_DID);
    else await this.attachment.tearDownPasid(info, ioMm.pasid, false);
  }

  /** The process is exiting while the device may still send: no translation and no fault records (C10, L-9). */
  exit(dev: Device, ioMm: IoMm): Promise<void> {
    return this.attachment.tearDownPasid(infoOf(dev), ioMm.pasid, !this.unit.variants.has("L-9"));
  }

  async invalidate(dev: Device, ioMm: IoMm, start: bigint, size: bigint): Promise<void> {
    if (size === 0n) return;
    const range = size >= WHOLE ? undefined : this.#rangeOf(start, start + size - 1n);
    await this.invalidation.flushProcess(infoOf(dev), FLPT_DEFAULT_DID, ioMm.pasid, range);
  }

  /** The bug takes the size for the alignment: the unit drops the low bits, and the end of the range stays cached (L-19). */
  #rangeOf(start: bigint, end: bigint): AlignedRange {
    if (!this.unit.variants.has("L-19")) return alignedRange(start, end);
    const pages = (end >> 12n) - (start >> 12n) + 1n;
    return { address: (start >> 12n) << 12n, mask: Math.ceil(Math.log2(Number(pages))) };
  }
}
