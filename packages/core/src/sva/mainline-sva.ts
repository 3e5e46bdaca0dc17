/**
 * The SVA core as mainline has it today, behind the same interface: a bind gives a handle that counts its users, no driver
 * is called when the process exits (its entries only go silent), bonds stay until they are unbound, and the PASID belongs
 * to the process until its mm_struct goes (A13, B10, D5). VFIO's BIND works on this as on `SvaCore`.
 *
 * Mainline binds by attaching an SVA domain to the PASID; here the driver's mmAttach does that.
 */
import type { Device } from "../iommu/device.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Scheduler } from "../kernel/scheduler.js";
import { unfailing } from "../kernel/unfailing.js";
import type { Mm } from "../mm/mm.js";
import type { Variants } from "../platform/variants.js";
import type { Tracer } from "../trace/tracer.js";
import { type BindRules, MAINLINE_RULES } from "./bind-rules.js";
import type { IoMmRecord } from "./io-mms.js";
import { PasidPerMm } from "./pasid-policy.js";
import { SvaCore } from "./sva-core.js";

/** struct iommu_sva: one device bound to one address space. */
export interface SvaHandle {
  readonly device: Device;
  /** iommu_sva_get_pasid: what to program into the device. */
  readonly pasid: number;
  /** Binds without an unbind yet. */
  readonly users: number;
}

/** `createPlatform({ sva: "mainline" })`. */
export class MainlineSva extends SvaCore {
  constructor(scheduler: Scheduler, trace: Tracer, kernel: Kernel, variants?: Variants) {
    super(scheduler, trace, kernel, variants, new PasidPerMm(trace));
  }

  protected override bindRules(): BindRules {
    return MAINLINE_RULES;
  }

  /** The drivers' release callbacks: translations stop, quietly. Bonds and PASID stay. */
  protected override async mmReleased(ioMm: IoMmRecord): Promise<void> {
    await ioMm.mutex.with(async () => {
      for (const { attached, device, domain, ops } of ioMm.devices) {
        const silence = () => ops.mmExit(domain, device, ioMm);
        if (attached) await unfailing(this.kernel, `${device.name}: release`, silence);
      }
    });
  }

  override async unbindDeviceLocked(dev: Device, pasid: number): Promise<void> {
    const bond = this.binder.bound(dev, pasid);
    if (--bond.users === 0) await this.bonds.remove(bond);
  }

  /** iommu_sva_bind_device(dev, mm) with mainline's answer: the same handle each time. @throws IommuError as iommuSvaBindDevice */
  async iommuSvaBindHandle(dev: Device, mm: Mm): Promise<SvaHandle> {
    return this.binder.bound(dev, await this.iommuSvaBindDevice(dev, mm, dev.svaParam?.features ?? 0));
  }

  /** iommu_sva_unbind_device(handle): the last user's ends the bond. */
  iommuSvaUnbindHandle({ device, pasid }: SvaHandle): Promise<void> {
    return this.iommuSvaUnbindDevice(device, pasid);
  }
}
