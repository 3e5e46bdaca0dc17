/**
 * Which pages devices wrote, from the dirty bits of second-stage leaves (VT-d 3.7.2, 9.6 SSADE): iommu_dirty_ops of Linux.
 * Writes that the IOTLB or a device-TLB has already let through as dirty are seen again only after an invalidation.
 */
import { hex, IommuError } from "@iommukit/core";
import { type Attachment, pasidTableOf } from "./attachment.js";
import type { VtdDomain } from "./domain.js";
import type { Invalidation } from "./invalidation.js";
import type { Unit } from "./unit.js";

/** A leaf that was written. */
export interface DirtyRange {
  readonly iova: bigint;
  /** Bytes: the size of the leaf. */
  readonly size: number;
}

export function tracksDirty({ scalable, stage, ecap }: Unit["features"]): boolean {
  return scalable && stage === "second" && ecap.SSADS;
}

export class DirtyTracking {
  constructor(
    private readonly unit: Unit,
    private readonly attachment: Attachment,
    private readonly invalidation: Invalidation,
  ) {}

  /** For the devices on the domain now and later. @throws IommuError EOPNOTSUPP without SSADS, or for a domain without table */
  async set(domain: VtdDomain, enable: boolean): Promise<void> {
    if (!tracksDirty(this.unit.features) || !domain.table)
      throw new IommuError(
        "EOPNOTSUPP",
        `${this.unit.dmar}: no dirty bits in domain ${domain.id} (ECAP.SSADS, second stage of scalable mode)`,
      );
    if (domain.dirtyTracking === enable) return;
    domain.dirtyTracking = enable;
    for (const info of domain.devices) {
      pasidTableOf(info).updateFirst(info.ridPasid, this.attachment.pasidEntry(domain));
      await this.invalidation.pasidEntryRemoved(info, domain.did, info.ridPasid, true);
    }
  }

  /** Every leaf of the range that was written since the last call, which clears them. @throws IommuError EINVAL tracking is off */
  async readAndClear(domain: VtdDomain, iova: bigint, size: bigint): Promise<DirtyRange[]> {
    const { table } = domain;
    if (!domain.dirtyTracking || !table) throw new IommuError("EINVAL", `dirty tracking of domain ${domain.id} is off`);
    if ((iova | size) & 0xfffn) throw new IommuError("EINVAL", `${hex(iova)}+${hex(size)} is not whole pages`);
    const dirty: DirtyRange[] = [];
    for (let at = iova; at < iova + size; ) {
      const leaf = table.leafAt(at);
      const bytes = BigInt(leaf?.size ?? 0x1000);
      const start = at - (at % bytes);
      if (leaf && table.clearDirty(start)) dirty.push({ iova: start, size: leaf.size });
      at = start + bytes;
    }
    if (dirty.length > 0) await this.invalidation.flushRange(domain, iova, iova + size - 1n, true);
    return dirty;
  }
}
