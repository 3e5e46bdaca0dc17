/** What the invalidation commands do to the unit's caches (VT-d 6.5.1, 6.5.2): one place for the queue, the registers and implicit invalidations. */
import type { Tracer } from "@iommukit/core";
import { within } from "./address-bits.js";
import type { Capabilities } from "./capabilities.js";
import type { ConfigLookup } from "./config-lookup.js";
import type { InterruptEntryCache } from "./interrupt-entry-cache.js";
import type { Iotlb, PagingStructureCache } from "./translation-cache.js";

export class Invalidate {
  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly config: ConfigLookup,
    private readonly iotlb: Iotlb,
    private readonly firstStage: PagingStructureCache,
    private readonly secondStage: PagingStructureCache,
    private readonly interruptEntries: InterruptEntryCache,
    private readonly trace: Tracer,
  ) {}

  #did(did: number): number {
    return did & this.caps.domainMask;
  }

  #done(cache: string, scope: string, entries: number): void {
    if (this.trace.enabled) this.trace.emit("cache:invalidated", { unit: this.unit, cache, scope, entries });
  }

  /** Everything that DMA remapping caches. */
  everything(): void {
    this.contextAll();
    this.pasidAll();
    this.iotlbAll();
  }

  contextAll(): void {
    this.#done("context", "global", this.config.contexts.invalidateAll());
  }

  /** In scalable mode, where entries have no domain, everything. */
  contextDomain(did: number): void {
    if (this.config.scalable) this.contextAll();
    else this.#done("context", "domain", this.config.contexts.invalidateDomain(this.#did(did)));
  }

  contextDevice(did: number, sid: number, functionMask: number): void {
    const domain = this.config.scalable ? -1 : this.#did(did);
    this.#done("context", "device", this.config.contexts.invalidateDevice(domain, sid, functionMask));
  }

  pasidAll(): void {
    this.#done("pasid", "global", this.config.pasids.invalidateAll());
  }

  pasidDomain(did: number, pasid = -1): void {
    this.#done("pasid", pasid < 0 ? "domain" : "pasid", this.config.pasids.invalidateDomain(this.#did(did), pasid));
  }

  iotlbAll(): void {
    this.#done("iotlb", "global", this.iotlb.invalidateAll());
    this.#done("paging-structure", "global", this.firstStage.invalidateAll() + this.secondStage.invalidateAll());
  }

  iotlbDomain(did: number): void {
    const domain = this.#did(did);
    this.#done("iotlb", "domain", this.iotlb.invalidateDomain(domain));
    this.#done(
      "paging-structure",
      "domain",
      this.firstStage.invalidateDomain(domain) + this.secondStage.invalidateDomain(domain),
    );
  }

  /**
   * @param hi bits of the address above MGAW are ignored (6.5.2.3, 11.4.6.4). @param am address mask: 2^am pages
   * @param leafOnly IH: paging-structure caches of the second stage are kept
   */
  iotlbPages(did: number, hi: number, lo: number, am: number, leafOnly: boolean): void {
    const domain = this.#did(did);
    const top = within(hi, this.caps.mgaw);
    this.#done("iotlb", "page", this.iotlb.invalidateDomainPages(domain, top, lo, 12 + am));
    const kept = leafOnly ? 0 : this.secondStage.invalidate(domain, -1, top, lo, 12 + am);
    this.#done("paging-structure", "page", this.firstStage.invalidateDomain(domain) + kept);
  }

  pasidIotlb(did: number, pasid: number): void {
    const domain = this.#did(did);
    this.#done("iotlb", "pasid", this.iotlb.invalidatePasid(domain, pasid));
    this.#done("paging-structure", "pasid", this.firstStage.invalidate(domain, pasid, 0, 0, 64));
  }

  pasidIotlbPages(did: number, pasid: number, hi: number, lo: number, am: number, leafOnly: boolean): void {
    const domain = this.#did(did);
    this.#done("iotlb", "page", this.iotlb.invalidatePasidPages(domain, pasid, hi, lo, 12 + am));
    if (!leafOnly) this.#done("paging-structure", "page", this.firstStage.invalidate(domain, pasid, hi, lo, 12 + am));
  }

  interruptEntriesAll(): void {
    this.#done("interrupt-entry", "global", this.interruptEntries.invalidateAll());
  }

  interruptEntriesIndex(index: number, mask: number): void {
    this.#done("interrupt-entry", "index", this.interruptEntries.invalidateIndex(index, mask));
  }
}
