/**
 * The life of a bond: linked into its three lists, attached, detached, unlinked (B2, B3, B7).
 *
 * Locks. `iommu_sva_lock` (spin) guards the lists and io_mm references and is never held across a wait. The io_mm's
 * mutex orders attach and detach in hardware, so that exactly the first bond of a domain writes the PASID table entry
 * and the last one clears it. No lock is held while a handler runs, while a fault queue is flushed, or while somebody
 * waits for another remover: whoever calls unbind may hold any lock that handlers and fault workers do not take.
 *
 * A bond is in the lists before hardware knows it and until hardware has forgotten it, so that every invalidation reaches it.
 */
import type { IommuDomain } from "../iommu/domain.js";
import type { IopfQueues } from "../iopf/queue.js";
import { IommuError } from "../kernel/errno.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Mutex } from "../kernel/mutex.js";
import { unfailing } from "../kernel/unfailing.js";
import type { Variants } from "../platform/variants.js";
import type { BondRecord } from "./bond-record.js";
import type { IoMms } from "./io-mms.js";

export class Bonds {
  readonly #byDomain = new Map<IommuDomain, Set<BondRecord>>();
  #count = 0;

  constructor(
    private readonly kernel: Kernel,
    private readonly lock: Mutex,
    private readonly ioMms: IoMms,
    private readonly iopf: IopfQueues,
    private readonly variants: Variants,
  ) {}

  get count(): number {
    return this.#count;
  }

  /** domain->mm_list. */
  ofDomain(domain: IommuDomain): ReadonlySet<BondRecord> {
    return this.#byDomain.get(domain) ?? new Set();
  }

  /** Under iommu_sva_lock. The bond carries a reference to its io_mm. */
  link(bond: BondRecord): void {
    bond.ioMm.devices.add(bond);
    bond.param.mmList.add(bond);
    const list = this.#byDomain.get(bond.domain) ?? new Set();
    this.#byDomain.set(bond.domain, list.add(bond));
    this.#count++;
  }

  /** Under iommu_sva_lock. */
  #unlink(bond: BondRecord): void {
    const list = this.#byDomain.get(bond.domain);
    list?.delete(bond);
    if (list?.size === 0) this.#byDomain.delete(bond.domain);
    bond.param.mmList.delete(bond);
    bond.ioMm.devices.delete(bond);
    this.ioMms.dropContext(bond.ioMm, bond.ops);
    this.#count--;
    bond.gone = true;
    bond.wakeAll();
    const { trace } = this.kernel;
    const { device, ioMm } = bond;
    if (trace.enabled && bond.ready)
      trace.emit("bond:removed", { device: device.name, pasid: ioMm.pasid, mm: ioMm.mm.id });
    this.ioMms.put(ioMm);
  }

  /** @throws IommuError as the driver refuses; the bond is gone then */
  async attach(bond: BondRecord): Promise<void> {
    const { ioMm, device } = bond;
    try {
      await ioMm.mutex.with(() => this.#attachLocked(bond));
    } catch (error) {
      bond.attached = false;
      if (!bond.leaving) {
        bond.leaving = true;
        await this.lock.with(() => this.#unlink(bond));
      }
      throw error;
    }
    bond.ready = true;
    bond.wakeAll();
    const { trace } = this.kernel;
    if (trace.enabled) trace.emit("bond:created", { device: device.name, pasid: ioMm.pasid, mm: ioMm.mm.id });
  }

  async #attachLocked(bond: BondRecord): Promise<void> {
    const { ioMm, device, domain, ops } = bond;
    if (bond.leaving) throw new IommuError("EINVAL", `${device.name} is being shut down`);
    if (!ioMm.contexts.has(ops)) ioMm.contexts.set(ops, await ops.mmAlloc(domain, ioMm.mm, ioMm.flags));
    bond.attached = true;
    await ops.mmAttach(domain, device, ioMm, !sharesEntry(bond));
  }

  /** Waits until the bond is bound, or gone. */
  settle(bond: BondRecord): Promise<void> {
    return bond.wait(() => bond.settled);
  }

  /** Removes the bond, or waits until whoever does so has finished. */
  async remove(bond: BondRecord): Promise<void> {
    if (bond.leaving) return this.gone(bond);
    bond.leaving = true;
    if (this.variants.has("L-21")) bond.ioMm.refs++;
    await this.detach(bond);
  }

  /** Waits for the thread that removes the bond. Only `gone` may be looked at: the bond is freed before we wake. */
  async gone(bond: BondRecord): Promise<void> {
    if (this.variants.has("S-8")) return this.#goneOfSeed(bond);
    await bond.wait(() => bond.gone);
  }

  /** The first waiter frees the bond, the others look at it once more. */
  async #goneOfSeed(bond: BondRecord): Promise<void> {
    const frees = bond.waiters++ === 0;
    await bond.wait(() => !bond.mmExitActive);
    if (frees) await this.detach(bond);
  }

  /** Drains, detaches, drains, unlinks. Whoever calls it has claimed the bond (`leaving`). */
  async detach(bond: BondRecord): Promise<void> {
    const { ioMm, device, domain, ops } = bond;
    // Answers what the device asked before it stopped.
    if (!this.variants.has("L-5")) await this.#drain(bond);
    await ioMm.mutex.with(async () => {
      if (this.variants.has("L-5")) await this.#drain(bond);
      if (!bond.attached) return;
      if (this.variants.has("S-18") && ioMm.refs === 1) this.ioMms.releasePasid(ioMm);
      const detach = () => ops.mmDetach(domain, device, ioMm, !sharesEntry(bond));
      if (!(await unfailing(this.kernel, `${device.name}: mm_detach`, detach))) this.retire(bond);
      bond.attached = false;
    });
    // A device that did not stop may have asked in between; nothing asks with this PASID any more from here on (D3).
    await this.#drain(bond);
    this.iopf.discardPasid(device, ioMm.pasid);
    await this.lock.with(() => this.#unlink(bond));
  }

  /** The device may go on using the PASID: nobody else gets it before the device has been shut down (C4, S-10). */
  retire({ ioMm, device, param }: BondRecord): void {
    this.kernel.printk(`${device.name}: possible leak of PASID ${ioMm.pasid}`);
    if (param.stuck.has(ioMm) || this.variants.has("S-10")) return;
    param.stuck.add(ioMm);
    ioMm.refs++;
  }

  async #drain(bond: BondRecord): Promise<void> {
    if (!this.variants.has("L-13")) await this.iopf.flush(bond.device);
  }
}

/** True when another bond of the address space uses the domain's PASID table entry (B3). */
function sharesEntry(bond: BondRecord): boolean {
  for (const other of bond.ioMm.devices) {
    if (other !== bond && other.attached && other.domain === bond.domain) return true;
  }
  return false;
}
