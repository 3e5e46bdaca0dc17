/** dmar_domain: an address space for DMA, its tables, the devices on it, and the domain-id that tags it in caches. */
import type { Aperture, DomainType, FlushQueue, IommuDomain, IommuOps } from "@iommukit/core";
import type { DeviceInfo } from "./device-info.js";
import { FLPT_DEFAULT_DID } from "./domain-ids.js";
import type { PageTable } from "./page-table.js";
import type { Stage } from "./probe.js";

export class VtdDomain implements IommuDomain {
  pgsizeBitmap = 0n;
  aperture: Aperture = { start: 0n, end: 0n };
  /** Filled by map and unmap; undefined for blocked and identity domains. */
  table: PageTable | undefined;
  /** While a device is attached; FLPT_DEFAULT_DID for pass-through. */
  did = FLPT_DEFAULT_DID;
  readonly devices = new Set<DeviceInfo>();
  /** Every access is snooped, whatever the device asks for (H26). Never taken back. */
  snoop = false;
  /** Leaves get their dirty bit from the unit (SSADE). */
  dirtyTracking = false;
  /** Something was mapped: second-stage leaves without SNP may exist. */
  hasMappings = false;
  /** Lazy mode: what was unmapped and not yet invalidated. */
  flushQueue: FlushQueue | undefined;

  constructor(
    readonly id: number,
    readonly type: DomainType,
    readonly ops: IommuOps,
    readonly stage: Stage,
  ) {}
}
