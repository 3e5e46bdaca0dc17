/** arm_smmu_master: one device behind the SMMU, and what the driver has enabled for it. */
import { type Device, IommuError, pciAtsEnabled } from "@iommukit/core";
import type { CdTable } from "./cd-table.js";
import type { Smmuv3Domain } from "./domain.js";

export class Master {
  domain: Smmuv3Domain | undefined;
  cdTable: CdTable | undefined;
  /** Bits of PASID that both the function and the SMMU have; 0: no PASID. */
  ssidBits = 0;
  ats = false;
  /** Page requests that the function may have outstanding; 0: PRI is disabled. */
  priCredits = 0;

  constructor(
    readonly device: Device,
    /** Faults of its transactions stall. */
    readonly stall: boolean,
    /** PRG responses to the function must carry the PASID. */
    readonly responsesWithPasid: boolean,
  ) {}

  get sid(): number {
    return this.device.rid;
  }

  /** A reset of the function is under way: its STE refuses everything. */
  blocked = false;

  /** True while the function can answer an Invalidate Request: it is there, and a reset has not disabled its ATS. */
  get reachable(): boolean {
    return this.device.pci.present && !this.blocked && pciAtsEnabled(this.device.pci);
  }
}

/** @throws IommuError ENODEV for a device that this driver has not probed */
export function masterOf(device: Device): Master {
  const { iommuPriv } = device;
  if (!(iommuPriv instanceof Master)) throw new IommuError("ENODEV", `${device.name} is not behind an SMMU`);
  return iommuPriv;
}
