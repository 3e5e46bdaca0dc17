/**
 * Which descriptors a change of tables needs, in which order (VT-d 6.5; drivers/iommu/intel/cache.c): the table, then the
 * caches of its entries, then the IOTLB, then the device-TLBs (I-7). Caching mode and write buffers: VT-d 6.1, 6.8 (H25).
 */
import type { MaySleep } from "@iommukit/core";
import {
  type AlignedRange,
  alignedRange,
  contextInvalidate,
  type Descriptor,
  deviceTlbInvalidate,
  globalDeviceTlbInvalidate,
  iotlbInvalidate,
  iotlbInvalidatePages,
  pasidCacheInvalidate,
  pasidDeviceTlbInvalidate,
  pasidIotlbInvalidate,
  pasidIotlbInvalidatePages,
  WHOLE_SPACE,
} from "./descriptors.js";
import type { DeviceInfo } from "./device-info.js";
import type { VtdDomain } from "./domain.js";
import type { GlobalCommand } from "./global-command.js";
import type { InvalidationQueue } from "./invalidation-queue.js";
import type { Unit } from "./unit.js";

/** The range of a whole address space. */
export const EVERYTHING: AlignedRange = { address: 0n, mask: WHOLE_SPACE };

export class Invalidation {
  constructor(
    private readonly unit: Unit,
    private readonly queue: InvalidationQueue,
    private readonly command: GlobalCommand,
  ) {}

  /** Everything, after the root table was set. Units with CAP.ESRTPS have done it themselves. */
  async global(): Promise<void> {
    const { cap, scalable } = this.unit.features;
    if (cap.ESRTPS) return;
    await this.queue.submit([contextInvalidate("global")]);
    if (scalable) await this.queue.submit([pasidCacheInvalidate("global")]);
    await this.queue.submit([iotlbInvalidate(cap, "global")]);
  }

  /**
   * Mappings from `start` to `end`, both inclusive, are gone.
   * @param leafOnly no table was removed
   */
  flushRange(domain: VtdDomain, start: bigint, end: bigint, leafOnly: boolean): MaySleep {
    return this.#flush(domain, alignedRange(start, end), leafOnly);
  }

  flushAll(domain: VtdDomain): MaySleep {
    return this.#flush(domain, EVERYTHING, false);
  }

  #flush(domain: VtdDomain, range: AlignedRange, leafOnly: boolean): MaySleep {
    if (domain.devices.size === 0) return undefined;
    const descriptors = this.#iotlb(domain, range, leafOnly);
    this.#deviceTlbs(domain, range, descriptors);
    return this.queue.submit(descriptors);
  }

  /** Mappings appeared: only a unit that caches absent entries has to hear of it; the first stage never caches those. */
  flushMapped(domain: VtdDomain, start: bigint, size: bigint, removedTables: boolean): MaySleep {
    if (domain.devices.size === 0) return undefined;
    if (removedTables) return this.flushRange(domain, start, start + size - 1n, false);
    if (this.unit.features.cap.CM && domain.stage === "second")
      return this.queue.submit(this.#iotlb(domain, alignedRange(start, start + size - 1n), false));
    return this.command.flushWriteBuffer();
  }

  /** Second stage: pages when the unit can say the range, else the domain. First stage: by the PASID of requests without one. */
  #iotlb(domain: VtdDomain, range: AlignedRange, leafOnly: boolean): Descriptor[] {
    const { cap } = this.unit.features;
    if (domain.stage === "second") {
      if (!cap.PSI || range.mask > cap.MAMV) return [iotlbInvalidate(cap, "domain", domain.did)];
      return [iotlbInvalidatePages(cap, domain.did, range, leafOnly)];
    }
    const pasids = new Set(Array.from(domain.devices, ({ ridPasid }) => ridPasid));
    return [...pasids].map((pasid) => this.#pasidIotlb(domain.did, pasid, range, leafOnly));
  }

  #pasidIotlb(did: number, pasid: number, range: AlignedRange, leafOnly: boolean): Descriptor {
    if (range.mask > this.unit.features.cap.MAMV) return pasidIotlbInvalidate(did, pasid);
    return pasidIotlbInvalidatePages(did, pasid, range, leafOnly);
  }

  #deviceTlbs(domain: VtdDomain, range: AlignedRange, into: Descriptor[]): void {
    for (const info of domain.devices) {
      if (!info.hasDeviceTlb) continue;
      into.push(deviceTlbInvalidate(info, range));
      // L-20: only one device of the domain is reached.
      if (this.unit.variants.has("L-20")) return;
    }
  }

  /** Pages of a process are gone, for one device that it is bound to. `range` undefined: all of them. */
  async flushProcess(info: DeviceInfo, did: number, pasid: number, range: AlignedRange = EVERYTHING): Promise<void> {
    const descriptors = [this.#processIotlb(did, pasid, range)];
    if (info.hasDeviceTlb) descriptors.push(pasidDeviceTlbInvalidate(info, pasid, range));
    await this.queue.submit(descriptors);
  }

  #processIotlb(did: number, pasid: number, range: AlignedRange): Descriptor {
    const leafOnly = this.unit.variants.has("L-22");
    return this.#pasidIotlb(did, pasid, range, leafOnly);
  }

  /** An entry appeared in a PASID table. */
  async pasidEntryCreated(did: number, pasid: number): Promise<void> {
    if (this.unit.features.cap.CM)
      await this.queue.submit([pasidCacheInvalidate("pasid", did, pasid), pasidIotlbInvalidate(did, pasid)]);
    else await this.command.flushWriteBuffer();
  }

  /**
   * An entry of a PASID table is not present any more (H24: VT-d 6.5.3.3, table 28).
   * @param byDomain it used a second stage, whose IOTLB entries only a domain-selective invalidation reaches (L-10)
   */
  async pasidEntryRemoved(info: DeviceInfo, did: number, pasid: number, byDomain: boolean): Promise<void> {
    const { features, variants } = this.unit;
    await this.queue.submit([pasidCacheInvalidate("pasid", did, pasid)]);
    const domainSelective = byDomain && !variants.has("L-10");
    await this.queue.submit([
      domainSelective ? iotlbInvalidate(features.cap, "domain", did) : pasidIotlbInvalidate(did, pasid),
    ]);
    if (!info.hasDeviceTlb) return;
    await this.queue.submit([
      pasid === info.ridPasid
        ? deviceTlbInvalidate(info, EVERYTHING)
        : pasidDeviceTlbInvalidate(info, pasid, EVERYTHING),
    ]);
  }

  /** A context entry appeared. In caching mode absent entries are cached under domain-id 0. */
  async contextCreated(info: DeviceInfo, did: number): Promise<void> {
    const { features } = this.unit;
    if (!features.cap.CM) return this.command.flushWriteBuffer();
    await this.queue.submit([contextInvalidate("device", 0, info.rid)]);
    await this.queue.submit([iotlbInvalidate(features.cap, "domain", did)]);
  }

  /** A present context entry of legacy mode went away. */
  async legacyContextRemoved(info: DeviceInfo, did: number): Promise<void> {
    await this.queue.submit([contextInvalidate("device", did, info.rid)]);
    await this.queue.submit([iotlbInvalidate(this.unit.features.cap, "domain", did)]);
    if (info.hasDeviceTlb && !this.unit.variants.has("L-12"))
      await this.queue.submit([deviceTlbInvalidate(info, EVERYTHING)]);
  }

  /** A present context entry of scalable mode changed or went away. @param dids domains that the function uses through it */
  async scalableContextChanged(info: DeviceInfo, dids: Iterable<number>): Promise<void> {
    const { features, variants } = this.unit;
    await this.queue.submit([contextInvalidate("device", 0, info.rid)]);
    for (const did of dids) {
      if (!variants.has("L-11")) await this.queue.submit([pasidCacheInvalidate("domain", did)]);
      await this.queue.submit([iotlbInvalidate(features.cap, "domain", did)]);
    }
    if (!info.hasDeviceTlb || variants.has("L-12")) return;
    await this.queue.submit([deviceTlbInvalidate(info, EVERYTHING), globalDeviceTlbInvalidate(info)]);
  }
}
