/** device_domain_info: what the driver keeps for one function behind the unit. */
import type { Device } from "@iommukit/core";
import type { DeviceTlbTarget } from "./descriptors.js";
import type { VtdDomain } from "./domain.js";
import type { PasidTable } from "./pasid-table.js";

export class DeviceInfo implements DeviceTlbTarget {
  domain: VtdDomain | undefined;
  /** Scalable mode: its PASID directory, and the PASID that stands for requests without one. */
  pasidTable: PasidTable | undefined;
  ridPasid = 0;
  atsEnabled = false;
  pasidEnabled = false;
  /** Why PCI refused to switch on PASID or ATS. */
  readonly refusals: string[] = [];
  /** Outstanding page requests that the device was allowed; 0 while PRI is off. */
  priCredits = 0;
  qdep = 0;
  pfsid = 0;

  /** @param rid the function's own id, also where a bridge replaces it; another for the alias (I14) */
  constructor(
    readonly device: Device,
    readonly rid = device.pci.rid,
  ) {}

  /** An id that requests of other functions carry too: it has no ATS and no PASID. */
  get isAlias(): boolean {
    return this.rid !== this.device.pci.rid;
  }

  get priEnabled(): boolean {
    return this.priCredits > 0;
  }

  /** A reset of the function is under way: its context entry is not present. */
  blocked = false;

  /** Its device-TLB may hold something that an invalidation can reach: a removed device answers no more (L-24), nor one in reset (L-23). */
  get hasDeviceTlb(): boolean {
    return this.atsEnabled && !this.blocked && this.device.pci.present;
  }
}

/** The driver's data of a device that it has probed. */
export function infoOf(device: Device): DeviceInfo {
  return device.iommuPriv as DeviceInfo;
}
