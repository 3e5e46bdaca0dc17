/**
 * iommu->dma_list: mappings sorted by IOVA, never overlapping, and the three questions that the ioctls ask of it.
 * Ends are inclusive, so that a mapping may end at 2^64 (F13). Kernels that compared exclusive ends lost such a mapping:
 * with `losesTop` it is kept here, pinned and mapped, but no search finds it and no range that ends there overlaps anything.
 */
import { pageOf } from "@iommukit/core";
import { wrap64 } from "../uapi/struct.js";
import type { VfioDma } from "./dma.js";
import { IntervalMap } from "./interval-map.js";

export class DmaList {
  /** By page: mappings begin and end with one. */
  readonly #mapped = new IntervalMap<VfioDma>();
  readonly #lost: VfioDma[] = [];

  constructor(private readonly losesTop: boolean) {}

  /** The mapping must have its final size and overlap no other. */
  insert(dma: VfioDma): void {
    if (this.#isLost(dma.iova, dma.size)) this.#lost.push(dma);
    else this.#mapped.insert(pageOf(dma.iova), pageOf(dma.last), dma);
  }

  remove(dma: VfioDma): void {
    if (this.#isLost(dma.iova, dma.size)) this.#lost.splice(this.#lost.indexOf(dma), 1);
    else this.#mapped.remove(pageOf(dma.iova));
  }

  /** The mapping with the lowest IOVA that overlaps `[start, start + size)`; `size` is at least 1. */
  find(start: bigint, size: bigint): VfioDma | undefined {
    return this.#isLost(start, size) ? undefined : this.#mapped.find(pageOf(start), pageOf(start + size - 1n));
  }

  /** Every mapping that overlaps the range, lowest first. A copy: the caller may remove them. */
  overlapping(start: bigint, size: bigint): VfioDma[] {
    const found: VfioDma[] = [];
    const last = pageOf(start + size - 1n);
    for (let dma = this.find(start, size); dma; dma = this.#mapped.find(pageOf(dma.last) + 1, last)) found.push(dma);
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
    return [...this.#mapped, ...this.#lost];
  }

  #isLost(start: bigint, size: bigint): boolean {
    return this.losesTop && size > 0n && wrap64(start + size) === 0n;
  }
}
