/** One I/O page fault of a bound process, handled by its address space as a CPU's fault would be (E7, E8). */
import { NO_PASID } from "../bus/transaction.js";
import type { Device } from "../iommu/device.js";
import type { Mm } from "../mm/mm.js";
import type { Variants } from "../platform/variants.js";
import { FaultPerm, type IopfFault, type IopfResponseCode } from "./fault.js";

export class MmFaultHandler {
  /** @param find the address space that the device is bound to with a PASID, with a user reference taken */
  constructor(
    private readonly find: (device: Device, pasid: number) => Mm | undefined,
    private readonly variants: Variants,
  ) {}

  async handle(device: Device, fault: IopfFault): Promise<IopfResponseCode> {
    if (fault.pasid === NO_PASID) return "invalid";
    const mm = this.find(device, fault.pasid);
    if (!mm) return "invalid";
    try {
      return await this.#handleMm(mm, fault);
    } finally {
      // If the process has exited meanwhile, the teardown flushes the queue that this runs on: another thread must do it (B9).
      mm.mmputAsync();
    }
  }

  async #handleMm(mm: Mm, fault: IopfFault): Promise<IopfResponseCode> {
    if (this.variants.has("S-17")) await mm.read(fault.address, new Uint8Array(1));
    const vma = mm.findVma(fault.address);
    if (!vma || fault.address < vma.start || fault.address >= vma.end) return "invalid";
    const allowed =
      (vma.read ? FaultPerm.READ : 0) | (vma.write ? FaultPerm.WRITE : 0) | (vma.exec ? FaultPerm.EXEC : 0);
    if (fault.perm & ~FaultPerm.PRIV & ~allowed) return "invalid";
    return (await mm.fault(fault.address, fault.perm)) === "ok" ? "success" : "invalid";
  }
}
