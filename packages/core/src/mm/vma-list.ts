/** The mappings of an address space, lowest first, without overlap. */
import type { Vma } from "./vma.js";

/** Found by address or range. */
export class VmaList {
  readonly #vmas: Vma[] = [];

  get all(): readonly Vma[] {
    return this.#vmas;
  }

  /** vma_lookup: the mapping that holds the page. */
  find(page: number): Vma | undefined {
    const vma = this.#vmas[this.#from(page)];
    return vma && vma.first <= page ? vma : undefined;
  }

  /** find_vma: the mapping that holds the page, or else the first one above it. */
  atOrAbove(page: number): Vma | undefined {
    return this.#vmas[this.#from(page)];
  }

  below(vma: Vma): Vma | undefined {
    return this.#vmas[this.#vmas.indexOf(vma) - 1];
  }

  /** Index of the first mapping that ends above the page. */
  #from(page: number): number {
    let low = 0;
    let high = this.#vmas.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#vmas[middle].limit > page) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  isFree(first: number, limit: number): boolean {
    const next = this.atOrAbove(first);
    return next === undefined || next.first >= limit;
  }

  /** Mappings that lie in part or whole in [first, limit). */
  overlapping(first: number, limit: number): Vma[] {
    const found: Vma[] = [];
    for (let i = this.#from(first); i < this.#vmas.length && this.#vmas[i].first < limit; i++)
      found.push(this.#vmas[i]);
    return found;
  }

  /** Whether every page of [first, limit) is mapped. */
  covers(first: number, limit: number): boolean {
    let next = first;
    for (const vma of this.overlapping(first, limit)) {
      if (vma.first > next) return false;
      next = vma.limit;
    }
    return next >= limit;
  }

  insert(vma: Vma): void {
    this.#vmas.splice(this.#from(vma.first), 0, vma);
  }

  /** Makes the borders of [first, limit) borders of mappings. @returns those inside */
  isolate(first: number, limit: number): Vma[] {
    this.#split(first);
    this.#split(limit);
    return this.overlapping(first, limit);
  }

  /** Takes [first, limit) out. The mappings are still open: their pages have to go first. */
  cut(first: number, limit: number): Vma[] {
    const inside = this.isolate(first, limit);
    if (inside.length > 0) this.#vmas.splice(this.#from(first), inside.length);
    return inside;
  }

  #split(page: number): void {
    const vma = this.find(page);
    if (!vma || vma.first === page) return;
    const upper = vma.clone({ first: page });
    vma.limit = page;
    this.insert(upper);
  }

  /** Joins equal neighbours in and around [first, limit) (vma_merge). */
  merge(first: number, limit: number): void {
    for (let i = Math.max(1, this.#from(first - 1)); i < this.#vmas.length && this.#vmas[i].first <= limit; ) {
      const [before, vma] = [this.#vmas[i - 1], this.#vmas[i]];
      if (!vma.continues(before)) {
        i++;
        continue;
      }
      before.limit = vma.limit;
      vma.close();
      this.#vmas.splice(i, 1);
    }
  }

  /** The highest free range of that size below `top` and above `bottom`, aligned. */
  highestGap(pages: number, bottom: number, top: number, align: number): number | undefined {
    let limit = top;
    for (let i = this.#vmas.length - 1; i >= -1; i--) {
      const floor = Math.max(bottom, this.#vmas[i]?.limit ?? 0);
      const first = Math.floor((limit - pages) / align) * align;
      if (first >= floor) return first;
      limit = Math.min(limit, this.#vmas[i]?.first ?? 0);
    }
    return undefined;
  }

  clear(): void {
    for (const vma of this.#vmas.splice(0)) vma.close();
  }
}
