/** iommu_bond: one address space on one device in one domain. Sits on io_mm.devices, domain.mm_list and param.mm_list (B2). */
import type { Device } from "../iommu/device.js";
import type { IommuDomain } from "../iommu/domain.js";
import type { IoMm } from "./io-mm.js";

/** Made by a bind, ended by unbind, exit, or the device's removal. */
export interface Bond {
  readonly ioMm: IoMm;
  readonly device: Device;
  readonly domain: IommuDomain;
  /** Passed to mm_exit: VFIO's container, a driver's context. */
  readonly drvdata: unknown;
  /** mm_exit runs now; unbind waits for it. */
  readonly mmExitActive: boolean;
}
