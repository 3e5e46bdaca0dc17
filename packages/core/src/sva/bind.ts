/** iommu_sva_bind_device and its inner form: who may bind what, and every errno of it (A7–A10, A13). */
import type { Device } from "../iommu/device.js";
import type { IommuDomain } from "../iommu/domain.js";
import type { IommuOps, SvaOps } from "../iommu/iommu-ops.js";
import { IommuError } from "../kernel/errno.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Mutex } from "../kernel/mutex.js";
import type { Mm } from "../mm/mm.js";
import type { BindRules } from "./bind-rules.js";
import { BondRecord } from "./bond-record.js";
import type { Bonds } from "./bonds.js";
import type { IoMmRecord, IoMms } from "./io-mms.js";
import type { SvaDeviceParam, SvaDevices } from "./sva-devices.js";

/** What a bind needs of its device. */
interface Ready {
  readonly domain: IommuDomain;
  readonly ops: SvaOps;
  readonly param: SvaDeviceParam;
}

export class Binder {
  constructor(
    private readonly kernel: Kernel,
    private readonly lock: Mutex,
    private readonly devices: SvaDevices,
    private readonly ioMms: IoMms,
    private readonly bonds: Bonds,
    private readonly rules: BindRules,
  ) {}

  /** @returns the PASID */
  async bind(dev: Device, mm: Mm, flags: number, drvdata: unknown): Promise<number> {
    const ready = this.#ready(dev, flags);
    // While we hold a user, the address space cannot begin to exit; async, because the caller's locks may be mm_exit's (B9).
    if (!mm.mmgetNotZero()) throw new IommuError("ESRCH", `${mm.owner} has exited`);
    try {
      return await this.#bind(dev, ready, mm, flags, drvdata);
    } finally {
      mm.mmputAsync();
    }
  }

  #ready(dev: Device, flags: number): Ready {
    const domain = dev.group?.domain;
    if (!domain) throw new IommuError("EINVAL", `${dev.name} has no domain`);
    const param = this.devices.param(dev);
    if (!param) {
      this.kernel.printk(`WARNING: ${dev.name} is bound to a process before SVA is initialised`);
      throw new IommuError("EINVAL", `SVA of ${dev.name} is not initialised`);
    }
    checkReady(dev, param);
    if (flags & ~param.features) {
      throw new IommuError(
        "EINVAL",
        `flags 0x${flags.toString(16)}: ${dev.name} was initialised with 0x${param.features.toString(16)}`,
      );
    }
    const { ops } = domain;
    if (!canBind(ops)) throw new IommuError("ENODEV", `${ops.name} cannot share address spaces`);
    return { domain, ops, param };
  }

  async #bind(dev: Device, ready: Ready, mm: Mm, flags: number, drvdata: unknown): Promise<number> {
    let bond: BondRecord | undefined;
    while (!bond) {
      const earlier = this.#bondOf(dev, mm);
      if (earlier && !earlier.settled) await this.bonds.settle(earlier);
      else bond = await this.lock.with(() => this.#link(dev, ready, mm, flags, drvdata));
    }
    if (!bond.ready) await this.bonds.attach(bond);
    return bond.ioMm.pasid;
  }

  /** Under iommu_sva_lock: a new bond, in its lists, or the one that is there; undefined when that one has to settle first. */
  #link(dev: Device, ready: Ready, mm: Mm, flags: number, drvdata: unknown): BondRecord | undefined {
    const { domain, ops, param } = ready;
    checkReady(dev, param);
    const existing = this.#bondOf(dev, mm);
    if (existing) {
      if (!existing.settled) return undefined;
      this.rules.again(existing);
      return existing;
    }
    const ioMm = this.#ioMm(dev, param, mm, flags);
    try {
      this.#mayAttach(dev);
    } catch (refusal) {
      this.ioMms.put(ioMm);
      throw refusal;
    }
    const bond = new BondRecord(this.kernel, ioMm, dev, domain, ops, param, drvdata);
    this.bonds.link(bond);
    return bond;
  }

  /** What keeps only those out whose address space is not bound yet: they need a bond, and iommu_attach_device_pasid. */
  #mayAttach(dev: Device): void {
    if (this.kernel.allocationFails("iommu_bond"))
      throw new IommuError("ENOMEM", `no memory for a bond of ${dev.name}`);
    // Until the reset is over the device is on no domain.
    if (dev.group?.resetting.has(dev)) throw new IommuError("EBUSY", `${dev.name} is being reset`);
  }

  #bondOf(dev: Device, mm: Mm): BondRecord | undefined {
    for (const bond of this.ioMms.of(mm)?.devices ?? []) if (bond.device === dev) return bond;
    return undefined;
  }

  /** A reference to the io_mm of the address space, made if this is its first bond. */
  #ioMm(dev: Device, param: SvaDeviceParam, mm: Mm, flags: number): IoMmRecord {
    const ioMm = this.ioMms.of(mm);
    if (!ioMm) return this.ioMms.create(mm, flags, param.minPasid, param.maxPasid);
    this.rules.share(ioMm, dev, param, flags);
    ioMm.refs++;
    return ioMm;
  }

  /** The bond with that PASID on the device. @throws IommuError EINVAL not initialised, ESRCH no such bond (A10) */
  bound(dev: Device, pasid: number): BondRecord {
    const param = this.devices.param(dev);
    if (!param || !dev.group?.domain) throw new IommuError("EINVAL", `SVA of ${dev.name} is not initialised`);
    const bond = this.withPasid(dev, pasid);
    if (!bond) throw new IommuError("ESRCH", `no process with PASID ${pasid} is bound to ${dev.name}`);
    return bond;
  }

  withPasid(dev: Device, pasid: number): BondRecord | undefined {
    for (const bond of this.ioMms.withPasid(pasid)?.devices ?? []) if (bond.device === dev) return bond;
    return undefined;
  }
}

/** While the device is initialised or shut down nobody binds it. */
function checkReady(dev: Device, { ready }: SvaDeviceParam): void {
  if (!ready) throw new IommuError("EINVAL", `SVA of ${dev.name} is being initialised, or shut down`);
}

function canBind(ops: IommuOps): ops is IommuOps & SvaOps {
  return (
    ops.mmAlloc !== undefined &&
    ops.mmFree !== undefined &&
    ops.mmAttach !== undefined &&
    ops.mmDetach !== undefined &&
    ops.mmExit !== undefined &&
    ops.mmInvalidate !== undefined
  );
}
