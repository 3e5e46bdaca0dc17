/**
 * The parts of one unit's driver, put together, and the order in which the unit is switched on and off (VT-d 11.4.4; init_dmars
 * of drivers/iommu/intel/iommu.c): queue, root table, invalidate everything, page requests, fault event, translation.
 */
import { isErrno, type Sva } from "@iommukit/core";
import { RTADDR } from "../spec/registers.js";
import { Aliases } from "./aliases.js";
import { Attachment } from "./attachment.js";
import type { DeviceInfo } from "./device-info.js";
import { DirtyTracking } from "./dirty-tracking.js";
import { DomainIds } from "./domain-ids.js";
import { FaultHandler } from "./fault-handler.js";
import { GlobalCommand } from "./global-command.js";
import { Invalidation } from "./invalidation.js";
import { InvalidationQueue } from "./invalidation-queue.js";
import { PageRequests } from "./page-requests.js";
import { missingForSva } from "./probe.js";
import { RootTable } from "./root-context.js";
import type { Unit } from "./unit.js";

export class Parts {
  readonly devices = new Map<number, DeviceInfo>();
  readonly command: GlobalCommand;
  readonly queue: InvalidationQueue;
  readonly root: RootTable;
  readonly ids: DomainIds;
  readonly invalidation: Invalidation;
  readonly pageRequests: PageRequests;
  readonly faults: FaultHandler;
  readonly attachment: Attachment;
  readonly aliases: Aliases;
  readonly dirtyTracking: DirtyTracking;

  constructor(
    readonly unit: Unit,
    sva: Sva,
  ) {
    const isPresent = (rid: number) => this.devices.get(rid)?.device.pci.present === true;
    this.command = new GlobalCommand(unit);
    this.queue = new InvalidationQueue(unit, this.command, isPresent);
    this.root = new RootTable(unit);
    this.ids = new DomainIds(unit.features.domainIds);
    this.invalidation = new Invalidation(unit, this.queue, this.command);
    this.pageRequests = new PageRequests(unit, this.queue, sva, this.devices);
    this.faults = new FaultHandler(unit);
    this.attachment = new Attachment(unit, this.root, this.ids, this.invalidation, this.pageRequests);
    this.aliases = new Aliases(this.attachment, this.devices);
    this.dirtyTracking = new DirtyTracking(unit, this.attachment, this.invalidation);
  }

  /** @throws IommuError ETIMEDOUT the unit does not follow a command; ENOMEM. Nothing is kept then */
  async start(): Promise<void> {
    try {
      await this.#bringUp();
    } catch (error) {
      await this.#giveUp();
      throw error;
    }
  }

  async #bringUp(): Promise<void> {
    const { mmio, features, kernel, dmar } = this.unit;
    if (this.command.isSet("TES")) await this.command.disable("TE");
    this.faults.handle();
    await this.queue.enable();
    kernel.printk(`DMAR: ${dmar}: Using Queued invalidation`);
    await this.command.flushWriteBuffer();
    const rtaddr = RTADDR.encode({ RTA: this.root.root, TTM: features.scalable ? "scalable" : "legacy" });
    mmio.write64(RTADDR.offset, (BigInt(rtaddr[1] >>> 0) << 32n) | BigInt(rtaddr[0] >>> 0));
    await this.command.setRootTable();
    await this.invalidation.global();
    await this.command.flushWriteBuffer();
    if (features.scalable && features.ecap.PRS) this.pageRequests.enable();
    this.faults.enable();
    await this.command.enable("TE");
    await this.command.disableProtectedMemory();
    this.#printSvaLimits();
  }

  /** What Linux says at boot when processes cannot be shared although PASIDs work (intel_svm_check). */
  #printSvaLimits(): void {
    const { features, kernel, dmar } = this.unit;
    if (!features.scalable || !features.ecap.PASID) return;
    const missing = missingForSva(features);
    if (missing.some((line) => line.startsWith("CAP.FS1GP")))
      kernel.printk(`DMAR: ${dmar} SVM disabled, incompatible 1GB page capability`);
  }

  /** All devices have been released. */
  async stop(): Promise<void> {
    await this.command.disable("TE");
    this.faults.disable();
    this.pageRequests.disable();
    await this.queue.disable();
    this.#free();
  }

  /** Switched off as far as the unit follows. */
  async #giveUp(): Promise<void> {
    try {
      await this.stop();
    } catch (error) {
      if (!isErrno(error)) throw error;
      this.#free();
    }
  }

  #free(): void {
    this.faults.disable();
    this.pageRequests.disable();
    this.queue.free();
    this.root.free();
  }
}
