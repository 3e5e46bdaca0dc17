/** When a PASID is taken and when it goes back. */
import type { Mm } from "../mm/mm.js";
import type { Tracer } from "../trace/tracer.js";
import type { PasidPolicy } from "./io-mms.js";
import { PasidAllocator } from "./pasid.js";

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
