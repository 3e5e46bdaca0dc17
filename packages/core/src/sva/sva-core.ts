/**
 * The SVA core as the series "Shared Virtual Addressing for the IOMMU" v2 has it: bonds that end with the process, an
 * mm_exit callback for device drivers, a PASID per process as long as it is bound to anything. The parts are in the files
 * that it is made of; `MainlineSva` puts the same parts together in mainline's way.
 */
import type { Device } from "../iommu/device.js";
import type { IommuDomain } from "../iommu/domain.js";
import type { IopfFault } from "../iopf/fault.js";
import { MmFaultHandler } from "../iopf/handler.js";
import { IopfQueues } from "../iopf/queue.js";
import { IommuError } from "../kernel/errno.js";
import type { Kernel } from "../kernel/kernel.js";
import { Mutex } from "../kernel/mutex.js";
import type { Scheduler } from "../kernel/scheduler.js";
import type { Mm } from "../mm/mm.js";
import { variants as named, type Variants } from "../platform/variants.js";
import type { Tracer } from "../trace/tracer.js";
import { Binder } from "./bind.js";
import { type BindRules, SEED_RULES } from "./bind-rules.js";
import type { Bond } from "./bond.js";
import { Bonds } from "./bonds.js";
import type { MmExitHandler } from "./device-init.js";
import type { IoMm } from "./io-mm.js";
import { type IoMmRecord, IoMms, type PasidPolicy } from "./io-mms.js";
import { MmExit } from "./mm-exit.js";
import { SvaNotifier } from "./notifier.js";
import { PasidPerBond } from "./pasid-policy.js";
import type { Sva } from "./sva.js";
import { SvaDevices } from "./sva-devices.js";

/** `createPlatform({ sva: "seed" })`, the default. */
export class SvaCore implements Sva {
  protected readonly ioMms: IoMms;
  protected readonly bonds: Bonds;
  protected readonly binder: Binder;
  readonly #devices: SvaDevices;
  readonly #iopf: IopfQueues;
  readonly #mmExit: MmExit;

  constructor(
    readonly scheduler: Scheduler,
    readonly trace: Tracer,
    readonly kernel: Kernel,
    variants: Variants = named(),
    private readonly pasids: PasidPolicy = new PasidPerBond(trace),
  ) {
    const lock = new Mutex(scheduler, trace, "iommu_sva_lock", "spin");
    // iommu_attach_handle_get: what others are bound to is not the device's to fault in.
    const find = (dev: Device, pasid: number) =>
      this.binder.withPasid(dev, pasid) ? this.iommuSvaFind(pasid) : undefined;
    const handler = new MmFaultHandler(find, variants);
    const handle = (dev: Device, fault: IopfFault) => {
      const mutex = variants.has("L-5") ? this.ioMms.withPasid(fault.pasid)?.mutex : undefined;
      return mutex ? mutex.with(() => handler.handle(dev, fault)) : handler.handle(dev, fault);
    };
    this.#iopf = new IopfQueues(kernel, handle, variants);
    this.#devices = new SvaDevices(kernel, this.#iopf, variants);
    this.ioMms = new IoMms(
      kernel,
      pasids,
      (ioMm) => new SvaNotifier(kernel, ioMm, this.ioMms, () => this.mmReleased(ioMm)),
      variants,
    );
    this.bonds = new Bonds(kernel, lock, this.ioMms, this.#iopf, variants);
    this.binder = new Binder(kernel, lock, this.#devices, this.ioMms, this.bonds, this.bindRules());
    this.#mmExit = new MmExit(kernel, this.ioMms, this.bonds, variants);
  }

  protected bindRules(): BindRules {
    return SEED_RULES;
  }

  protected mmReleased(ioMm: IoMmRecord): Promise<void> {
    return this.#mmExit.exit(ioMm);
  }

  iommuSvaDeviceInit(dev: Device, features: number, maxPasid: number, mmExit?: MmExitHandler): Promise<void> {
    return this.#devices.init(dev, features, maxPasid, mmExit);
  }

  async iommuSvaDeviceShutdown(dev: Device): Promise<void> {
    const { stuck } = await this.#devices.shutdown(dev, async () => {
      await this.unbindDeviceAll(dev);
      await this.#iopf.flush(dev);
    });
    for (const ioMm of stuck) this.ioMms.put(ioMm);
  }

  async iommuSvaBindDevice(dev: Device, mm: Mm, flags: number, drvdata?: unknown): Promise<number> {
    const { group } = dev;
    if (!group) throw new IommuError("ENODEV", `${dev.name} has no group`);
    return group.mutex.with(() => {
      // Devices of one group can reach each other behind the IOMMU's back (I16).
      if (group.devices.length !== 1)
        throw new IommuError("EINVAL", `group ${group.id} of ${dev.name} has ${group.devices.length} devices`);
      return this.bindDeviceLocked(dev, mm, flags, drvdata);
    });
  }

  async iommuSvaUnbindDevice(dev: Device, pasid: number): Promise<void> {
    if (!dev.group) throw new IommuError("ENODEV", `${dev.name} has no group`);
    await dev.group.mutex.with(() => this.unbindDeviceLocked(dev, pasid));
  }

  bindDeviceLocked(dev: Device, mm: Mm, flags: number, drvdata?: unknown): Promise<number> {
    return this.binder.bind(dev, mm, flags, drvdata);
  }

  async unbindDeviceLocked(dev: Device, pasid: number): Promise<void> {
    await this.bonds.remove(this.binder.bound(dev, pasid));
  }

  async unbindDeviceAll(dev: Device): Promise<void> {
    for (const bond of [...(this.#devices.param(dev)?.mmList ?? [])]) await this.bonds.remove(bond);
  }

  iommuSvaFind(pasid: number): Mm | undefined {
    const mm = this.ioMms.withPasid(pasid)?.mm;
    return mm?.mmgetNotZero() ? mm : undefined;
  }

  ioMmOf(mm: Mm): IoMm | undefined {
    return this.ioMms.of(mm);
  }

  ioMmWithPasid(pasid: number): IoMm | undefined {
    return this.ioMms.withPasid(pasid);
  }

  domainBonds(domain: IommuDomain): ReadonlySet<Bond> {
    return this.bonds.ofDomain(domain);
  }

  registerQueueFlush(dev: Device, flush: () => Promise<void>): void {
    this.#iopf.registerFlush(dev, flush);
  }

  flushDevice(dev: Device, _pasid: number): Promise<void> {
    return this.#iopf.flush(dev);
  }

  report(dev: Device, fault: IopfFault): void {
    this.#iopf.report(dev, fault);
  }

  discardPartial(devices: Iterable<Device>): void {
    this.#iopf.discardPartial(devices);
  }

  inUse(): { readonly bonds: number; readonly pasids: number; readonly partials: number } {
    return { bonds: this.bonds.count, pasids: this.pasids.used, partials: this.#iopf.partials };
  }
}
