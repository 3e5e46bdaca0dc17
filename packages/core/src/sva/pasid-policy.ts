/** When a PASID is taken and when it goes back. */
import { IommuError } from "../kernel/errno.js";
import type { Mm } from "../mm/mm.js";
import type { Tracer } from "../trace/tracer.js";
import type { PasidPolicy } from "./io-mms.js";
import { PasidAllocator } from "./pasid.js";

/** 0 stands for traffic without a PASID (IOMMU_NO_PASID). */
const IOMMU_FIRST_GLOBAL_PASID = 1;

/** The seed: taken by the first bond of a process, given back when the last one is gone and drained (D1, D3). */
export class PasidPerBond implements PasidPolicy {
  readonly #pasids = new PasidAllocator();

  constructor(private readonly trace: Tracer) {}

  get used(): number {
    return this.#pasids.used;
  }

  take(mm: Mm, min: number, max: number): number {
    const pasid = this.#pasids.alloc(min, max);
    if (this.trace.enabled) this.trace.emit("pasid:allocated", { pasid, mm: mm.id });
    return pasid;
  }

  release(mm: Mm, pasid: number): void {
    this.#pasids.free(pasid);
    if (this.trace.enabled) this.trace.emit("pasid:freed", { pasid, mm: mm.id });
  }
}

/**
 * Mainline: a process keeps its PASID from its first bind until the mm_struct goes (mm_pasid_drop in __mmdrop), which
 * bound devices hold off (B10, D5).
 */
export class PasidPerMm implements PasidPolicy {
  readonly #pasids = new PasidAllocator();
  readonly #byMm = new Map<Mm, number>();

  constructor(private readonly trace: Tracer) {}

  get used(): number {
    return this.#pasids.used;
  }

  take(mm: Mm, min: number, max: number): number {
    const kept = this.#byMm.get(mm);
    if (kept !== undefined) {
      if (kept < min || kept > max)
        throw new IommuError("EOVERFLOW", `${mm.owner} has PASID ${kept}, the device takes ${min} to ${max}`);
      return kept;
    }
    const pasid = this.#pasids.alloc(Math.max(min, IOMMU_FIRST_GLOBAL_PASID), max);
    this.#byMm.set(mm, pasid);
    mm.onDrop(() => {
      this.#byMm.delete(mm);
      this.#pasids.free(pasid);
      if (this.trace.enabled) this.trace.emit("pasid:freed", { pasid, mm: mm.id });
    });
    if (this.trace.enabled) this.trace.emit("pasid:allocated", { pasid, mm: mm.id });
    return pasid;
  }

  release(): void {}
}
