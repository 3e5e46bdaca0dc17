/**
 * iommu->dma_list: mappings sorted by IOVA, never overlapping, and the three questions that the ioctls ask of it.
 * Ends are inclusive, so that a mapping may end at 2^64 (F13). Kernels that compared exclusive ends lost such a mapping:
 * with `losesTop` it is kept here, pinned and mapped, but no search finds it and no range that ends there overlaps anything.
 */
import { wrap64 } from "../uapi/struct.js";
import type { VfioDma } from "./dma.js";
import { SortedChunks } from "./sorted-chunks.js";

export class DmaList {
  readonly #sorted = new SortedChunks<VfioDma>((a, b) => a.iova < b.iova);
  readonly #lost: VfioDma[] = [];

  constructor(private readonly losesTop: boolean) {}

  /** The mapping must have its final size and overlap no other. */
  insert(dma: VfioDma): void {
    if (this.#isLost(dma.iova, dma.size)) {
      this.#lost.push(dma);
      return;
    }
    this.#sorted.insert(dma);
  }

  remove(dma: VfioDma): void {
    if (this.#isLost(dma.iova, dma.size)) this.#lost.splice(this.#lost.indexOf(dma), 1);
    else this.#sorted.remove(dma);
  }

  /** The mapping with the lowest IOVA that overlaps `[start, start + size)`; `size` is at least 1. */
  find(start: bigint, size: bigint): VfioDma | undefined {
    const first = this.firstFrom(start);
    if (!first || this.#isLost(start, size)) return undefined;
    return first.iova <= start + size - 1n ? first : undefined;
  }

  /** The mapping that holds `address`, or else the next above it. */
  firstFrom(address: bigint): VfioDma | undefined {
    return this.#sorted.first(({ last }) => last >= address);
  }

  /** Every mapping that overlaps the range, lowest first. A copy: the caller may remove them. */
  overlapping(start: bigint, size: bigint): VfioDma[] {
    if (!this.find(start, size)) return [];
    const end = start + size - 1n;
    const found: VfioDma[] = [];
    for (const dma of this.#sorted.from(({ last }) => last >= start)) {
      if (dma.iova > end) break;
      found.push(dma);
    }
    return found;
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
}
