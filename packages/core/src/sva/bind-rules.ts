/** Where the seed and mainline answer a bind differently (A9, A13, D5). */
import type { Device } from "../iommu/device.js";
import { type Errno, IommuError } from "../kernel/errno.js";
import type { BondRecord } from "./bond-record.js";
import type { IoMmRecord } from "./io-mms.js";
import type { SvaDeviceParam } from "./sva-devices.js";

export interface BindRules {
  /** The address space is already bound to the device. @throws IommuError where that is not allowed */
  again(bond: BondRecord): void;
  /** The address space is bound to another device. @throws IommuError when it does not suit this one */
  share(ioMm: IoMmRecord, dev: Device, param: SvaDeviceParam, flags: number): void;
}

/** One bond per device and process, with the same flags on every device. */
export const SEED_RULES: BindRules = {
  again({ device, ioMm }) {
    throw new IommuError("EEXIST", `${ioMm.mm.owner} is already bound to ${device.name}`);
  },
  share(ioMm, dev, param, flags) {
    if (ioMm.flags !== flags) {
      throw new IommuError(
        "EDOM",
        `${ioMm.mm.owner} is bound with flags 0x${ioMm.flags.toString(16)}, not 0x${flags.toString(16)}`,
      );
    }
    checkRange(ioMm, dev, param, "ERANGE");
  },
};

/** A second bind is one more user of the handle; there are no flags. */
export const MAINLINE_RULES: BindRules = {
  again(bond) {
    bond.users++;
  },
  share(ioMm, dev, param) {
    checkRange(ioMm, dev, param, "EOVERFLOW");
  },
};

function checkRange({ mm, pasid }: IoMmRecord, dev: Device, { minPasid, maxPasid }: SvaDeviceParam, code: Errno): void {
  if (pasid >= minPasid && pasid <= maxPasid) return;
  throw new IommuError(code, `${mm.owner} has PASID ${pasid}, ${dev.name} takes ${minPasid} to ${maxPasid}`);
}
