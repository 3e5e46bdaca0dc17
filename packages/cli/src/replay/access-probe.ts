/** Reads pages through a machine's chip as a device would, and counts in its trace what that took. */
import { Access, NO_PASID, type Platform, Translation, TranslationStatus } from "@iommukit/core";
import type { Counts } from "./counts.js";

/** Pages below 4 GiB. */
const PAGES_BELOW_4G = 0x10_0000;

export class AccessProbe {
  readonly #answer = new Translation();
  readonly #stops: readonly (() => void)[];

  /** @param counts where to count now */
  constructor(
    private readonly platform: Platform,
    private readonly counts: () => Counts,
  ) {
    const { trace } = platform;
    this.#stops = [
      trace.on("tlb:hit", ({ cache }) => count(counts().hits, cache)),
      trace.on("tlb:missed", ({ cache }) => count(counts().misses, cache)),
      trace.on("config:hit", ({ cache }) => count(counts().hits, cache)),
      trace.on("config:missed", ({ cache }) => count(counts().misses, cache)),
      trace.on("table:read", ({ table }) => count(counts().reads, table)),
    ];
  }

  /** One untranslated read at the start of a 4 KiB page. */
  read(rid: number, page: number): void {
    const { chip } = this.platform.iommus[0];
    const hi = Math.floor(page / PAGES_BELOW_4G) | 0;
    const lo = (page % PAGES_BELOW_4G) << 12;
    const counts = this.counts();
    counts.accesses++;
    const status = chip.translate(rid, NO_PASID, hi, lo, Access.READ, this.#answer);
    if (status !== TranslationStatus.OK) counts.faults++;
  }

  close(): void {
    for (const stop of this.#stops) stop();
  }
}

function count(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}
