/**
 * iommu->dma_list: mappings sorted by IOVA, never overlapping, and the three questions that the ioctls ask of it.
 * Ends are inclusive, so that a mapping may end at 2^64 (F13). Kernels that compared exclusive ends lost such a mapping:
 * with `losesTop` it is kept here, pinned and mapped, but no search finds it and no range that ends there overlaps anything.
 */
import { wrap64 } from "../uapi/struct.js";
import type { VfioDma } from "./dma.js";

export class DmaList {
  readonly #sorted: VfioDma[] = [];
  readonly #lost: VfioDma[] = [];

  constructor(private readonly losesTop: boolean) {}

  /** The mapping must have its final size and overlap no other. */
  insert(dma: VfioDma): void {
    if (this.#isLost(dma.iova, dma.size)) {
      this.#lost.push(dma);
      return;
    }
    this.#sorted.splice(this.#lowerBound(dma.iova), 0, dma);
  }

  /** Neighbours, lowest first, as `overlapping` gives them: taken out in one go. */
  removeRun(run: readonly VfioDma[]): void {
    if (run.length === 0) return;
    const lost = run.filter((dma) => this.#isLost(dma.iova, dma.size));
    for (const dma of lost) this.#lost.splice(this.#lost.indexOf(dma), 1);
    if (lost.length < run.length) this.#sorted.splice(this.#lowerBound(run[0].iova), run.length - lost.length);
  }

  /** The mapping with the lowest IOVA that overlaps `[start, start + size)`; `size` is at least 1. */
  find(start: bigint, size: bigint): VfioDma | undefined {
    const first = this.firstFrom(start);
    if (!first || this.#isLost(start, size)) return undefined;
    return first.iova <= start + size - 1n ? first : undefined;
  }

  /** The mapping that holds `address`, or else the next above it. */
  firstFrom(address: bigint): VfioDma | undefined {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#sorted[middle].last < address) low = middle + 1;
      else high = middle;
    }
    return this.#sorted[low];
  }

  /** Every mapping that overlaps the range, lowest first. A copy: the caller may remove them. */
  overlapping(start: bigint, size: bigint): VfioDma[] {
    const first = this.find(start, size);
    if (!first) return [];
    const from = this.#lowerBound(first.iova);
    const last = start + size - 1n;
    let to = from;
    while (to < this.#sorted.length && this.#sorted[to].iova <= last) to++;
    return this.#sorted.slice(from, to);
  }

  /** True when the range starts or ends inside of a mapping. */
  bisects(start: bigint, size: bigint): boolean {
    const first = this.find(start, 1n);
    if (first && first.iova !== start) return true;
    const last = this.find(wrap64(start + size - 1n), 1n);
    return last !== undefined && last.last !== start + size - 1n;
  }

  /** All of them, lowest first, a lost one too: it is still mapped. */
  all(): readonly VfioDma[] {
    return [...this.#sorted, ...this.#lost];
  }

  #isLost(start: bigint, size: bigint): boolean {
    return this.losesTop && size > 0n && wrap64(start + size) === 0n;
  }

  #lowerBound(iova: bigint): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#sorted[middle].iova < iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
