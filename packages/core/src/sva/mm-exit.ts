/**
 * The end of a bound process (C4, C5): for each bond the device driver stops the device (mm_exit), the IOMMU driver
 * makes the entry silent, the queues are flushed, and the bond goes. Runs before the first page of the process is freed.
 */
import type { Kernel } from "../kernel/kernel.js";
import type { Variants } from "../platform/variants.js";
import type { BondRecord } from "./bond-record.js";
import type { Bonds } from "./bonds.js";
import type { IoMmRecord, IoMms } from "./io-mms.js";

export class MmExit {
  constructor(
    private readonly kernel: Kernel,
    private readonly ioMms: IoMms,
    private readonly bonds: Bonds,
    private readonly variants: Variants,
  ) {}

  async exit(ioMm: IoMmRecord): Promise<void> {
    if (ioMm.refs === 0) return;
    ioMm.refs++;
    if (this.variants.has("L-3")) this.ioMms.releasePasid(ioMm);
    for (const bond of [...ioMm.devices]) {
      if (bond.leaving) await this.bonds.gone(bond);
      else await this.#exitBond(bond);
    }
    this.ioMms.put(ioMm);
  }

  async #exitBond(bond: BondRecord): Promise<void> {
    const { ioMm, device, domain, param } = bond;
    bond.leaving = true;
    bond.mmExitActive = true;
    const result = (await param.mmExit?.(device, ioMm.pasid, bond.drvdata)) ?? 0;
    bond.mmExitActive = false;
    bond.wakeAll();
    const { trace } = this.kernel;
    if (trace.enabled) trace.emit("bond:exited", { device: device.name, pasid: ioMm.pasid, mm: ioMm.mm.id, result });
    if (result !== 0) this.#retire(bond);
    if (this.variants.has("S-8") && bond.waiters > 0) return;
    await ioMm.mutex.with(async () => {
      if (bond.attached) await domain.ops.mmExit(domain, device, ioMm);
    });
    await this.bonds.detach(bond);
  }

  /** The device goes on using the PASID: nobody else may get it before the device has been shut down. */
  #retire({ ioMm, device, param }: BondRecord): void {
    this.kernel.printk(`${device.name}: possible leak of PASID ${ioMm.pasid}`);
    if (param.stuck.has(ioMm)) return;
    param.stuck.add(ioMm);
    ioMm.refs++;
  }
}
