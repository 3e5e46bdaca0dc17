/** The SVA core as drivers and VFIO call it: the functions of drivers/iommu/iommu-sva.c of the 2018 series. */

import type { Device } from "../iommu/device.js";
import type { IommuDomain } from "../iommu/domain.js";
import type { FaultSink } from "../iopf/fault.js";
import type { Mm } from "../mm/mm.js";
import { token } from "../platform/token.js";
import type { Bond } from "./bond.js";
import type { MmExitHandler } from "./device-init.js";
import type { IoMm } from "./io-mm.js";

/** `platform.sva`: what device drivers call to bind processes. */
export interface Sva extends FaultSink {
  /**
   * @param features IOMMU_SVA_FEAT_*; @param maxPasid 0: the limit of device and IOMMU
   * @throws IommuError EINVAL unknown feature; ENODEV no domain or no SVA in the driver; second init: EBUSY when both ask for page
   *   faults, EEXIST otherwise. No side effect then.
   */
  iommuSvaDeviceInit(dev: Device, features: number, maxPasid: number, mmExit?: MmExitHandler): Promise<void>;
  /** Removes all bonds of the device first; waits for running mm_exit handlers. @throws IommuError ENODEV */
  iommuSvaDeviceShutdown(dev: Device): Promise<void>;
  /**
   * Takes the group's mutex and refuses groups of several devices (A7). A user of `mm` is held while it runs. @returns the PASID
   * @throws IommuError ENODEV, EINVAL, EEXIST, EDOM, ERANGE, ENOMEM, ENOSPC (A9); ESRCH when the process has exited.
   *   Mainline's core counts a second bind instead of EEXIST, knows no EDOM, and answers EOVERFLOW for ERANGE (A13, D5).
   */
  iommuSvaBindDevice(dev: Device, mm: Mm, flags: number, drvdata?: unknown): Promise<number>;
  /** @throws IommuError ENODEV no group; EINVAL no param; ESRCH PASID not bound on the device */
  iommuSvaUnbindDevice(dev: Device, pasid: number): Promise<void>;
  /** The forms that VFIO uses while it holds the group (A8). Unbinding waits until the bond is gone, whoever removes it. */
  bindDeviceLocked(dev: Device, mm: Mm, flags: number, drvdata?: unknown): Promise<number>;
  unbindDeviceLocked(dev: Device, pasid: number): Promise<void>;
  /**
   * Removes every bond of the device, and waits for mm_exit handlers that run. IOMMU drivers call it in detachDev, before
   * they take locks that their mmDetach takes.
   */
  unbindDeviceAll(dev: Device): Promise<void>;
  /** The address space with that PASID, with a user reference taken (mmget); the caller calls mmput or mmputAsync. */
  iommuSvaFind(pasid: number): Mm | undefined;
  ioMmOf(mm: Mm): IoMm | undefined;
  /** The same by PASID; without a reference, for reports and checks. */
  ioMmWithPasid(pasid: number): IoMm | undefined;
  /** domain->mm_list: the bonds of the domain's devices (B2). */
  domainBonds(domain: IommuDomain): ReadonlySet<Bond>;
  /** Drivers register how to drain their hardware queue into the fault queue (E9, S30). */
  registerQueueFlush(dev: Device, flush: () => Promise<void>): void;
  /** Waits until no fault of the device with that PASID is queued or being handled. */
  flushDevice(dev: Device, pasid: number): Promise<void>;
  /** What is still allocated: bonds, PASIDs, partial groups. For leak checks. */
  inUse(): { readonly bonds: number; readonly pasids: number; readonly partials: number };
}
export const Sva = token<Sva>("Sva");
