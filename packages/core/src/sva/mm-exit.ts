/**
 * The end of a bound process (C4, C5): for each bond the device driver stops the device (mm_exit), the IOMMU driver
 * makes the entry silent, the queues are flushed, and the bond goes. Runs before the first page of the process is freed.
 */
import { isErrno } from "../kernel/errno.js";
import type { Kernel } from "../kernel/kernel.js";
import { unfailing } from "../kernel/unfailing.js";
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
    // Newest first, as list_add puts them into io_mm->devices.
    for (const bond of [...ioMm.devices].reverse()) {
      if (bond.leaving) await this.bonds.gone(bond);
      else await this.#exitBond(bond);
    }
    this.ioMms.put(ioMm);
  }

  async #exitBond(bond: BondRecord): Promise<void> {
    const { ioMm, device, domain, ops } = bond;
    bond.leaving = true;
    bond.mmExitActive = true;
    const result = await this.#stopDevice(bond);
    bond.mmExitActive = false;
    bond.wakeAll();
    const { trace } = this.kernel;
    if (trace.enabled) trace.emit("bond:exited", { device: device.name, pasid: ioMm.pasid, mm: ioMm.mm.id, result });
    if (result !== 0) this.bonds.retire(bond);
    if (this.variants.has("S-8") && bond.waiters > 0) return;
    await ioMm.mutex.with(async () => {
      const silence = () => ops.mmExit(domain, device, ioMm);
      if (bond.attached) await unfailing(this.kernel, `${device.name}: mm_exit`, silence);
    });
    await this.bonds.detach(bond);
  }

  /** @returns what the handler returns; one that throws a refusal instead could not stop its device either */
  async #stopDevice({ ioMm, device, param, drvdata }: BondRecord): Promise<number> {
    try {
      return (await param.mmExit?.(device, ioMm.pasid, drvdata)) ?? 0;
    } catch (error) {
      if (!isErrno(error)) throw error;
      this.kernel.printk(`${device.name}: the mm_exit handler failed: ${error.message}`);
      return -error.errno;
    }
  }
}
