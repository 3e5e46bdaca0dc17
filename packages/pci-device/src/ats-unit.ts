/**
 * What a function does with Invalidate Request messages (PCIe 10.3): drops the entries, waits for the transactions that
 * still use them, and answers with Invalidate Completions that name the ITags in a vector.
 */
import { type InvalidateRequest, join64, type Scheduler, type Tracer, type TranslationPort } from "@iommukit/core";
import { Atc, type AtcGeometry, type AtcRange } from "./atc.js";

/** Geometry, capabilities and times of the unit. */
export interface AtsUnitOptions extends AtcGeometry {
  /** Global Invalidate Supported: without it an Invalidate Request is for its own PASID, whatever its Global bit says (10.5.1.2). */
  readonly globalInvalidate: boolean;
  /** How many completions the function sends per request, 1 to 8: one per traffic class that it uses. */
  readonly completions: number;
  /** Nanoseconds from the moment when an invalidation is done to its completion message. 0: in the same call. */
  readonly completionDelay: number;
}

interface PendingInvalidation {
  readonly itag: number;
  readonly uses: Set<AtcRange>;
}

/** `device.ats` of a function that has the capability. */
export class AtsUnit {
  readonly atc: Atc;
  /** ATS Enable. */
  enabled = false;
  /** log2 of the smallest translation that the IOMMU may answer with: STU + 12. */
  smallestTranslation = 12;
  /** A translation request got Unsupported Request: the function does not ask again before it is enabled anew (10.2.4.1). */
  refused = false;
  #pending: PendingInvalidation[] = [];
  /** Counts resets: what a delayed completion belongs to may be gone when its time has come. */
  #era = 0;

  /** @param rid of the function, now: bus numbers may change */
  constructor(
    private readonly name: string,
    private readonly rid: () => number,
    private readonly options: AtsUnitOptions,
    private readonly port: TranslationPort,
    private readonly scheduler: Scheduler,
    private readonly trace: Tracer,
  ) {
    this.atc = new Atc(options);
  }

  /** Invalidations that wait for transactions. */
  get outstanding(): number {
    return this.#pending.length;
  }

  invalidate(request: InvalidateRequest): void {
    const { pasid, hi, lo, shift, itag } = request;
    const global = request.global && this.options.globalInvalidate;
    const entries = this.atc.invalidate(pasid, hi, lo, shift, global);
    if (this.trace.enabled) {
      const address = join64(hi, lo);
      this.trace.emit("ats:invalidated", {
        unit: this.name,
        rid: this.rid(),
        pasid,
        address,
        size: 1n << BigInt(shift),
        entries,
      });
    }
    const uses = new Set(this.atc.usesOf(pasid, hi, lo, shift, global));
    if (uses.size === 0) this.#complete(1 << itag);
    else this.#pending.push({ itag, uses });
  }

  /** A transaction is over: the invalidations that waited for it alone complete together, in one vector. */
  close(use: AtcRange): void {
    this.atc.close(use);
    if (!use.stale) return;
    let vector = 0;
    this.#pending = this.#pending.filter(({ itag, uses }) => {
      uses.delete(use);
      if (uses.size === 0) vector |= 1 << itag;
      return uses.size > 0;
    });
    if (vector !== 0) this.#complete(vector);
  }

  #complete(itagVector: number): void {
    const { completions, completionDelay } = this.options;
    const era = this.#era;
    const send = () => {
      if (era !== this.#era) return;
      const completion = { rid: this.rid(), itagVector: itagVector >>> 0, count: completions % 8 };
      for (let i = 0; i < completions; i++) this.port.invalidateCompletion(completion);
    };
    if (completionDelay === 0) send();
    else this.scheduler.timer(completionDelay, send);
  }

  enable(smallestTranslation: number): void {
    this.enabled = true;
    this.refused = false;
    this.smallestTranslation = smallestTranslation;
  }

  /** ATS Enable was cleared: the translations go; requests under way are answered all the same (10.5.1.3). */
  disable(): void {
    this.enabled = false;
    this.atc.clear();
  }

  /** A reset: nothing of before is remembered, and invalidations under way are never answered. */
  reset(): void {
    this.disable();
    this.#pending = [];
    this.#era++;
  }
}
