/**
 * The PASID space: one for the whole machine, so that an address space has the same PASID on every device (D1, D2).
 * 31 bits at most, 20 in practice (PCI). The lowest free value is given out, but 0 last of all: Arm and AMD keep it for
 * traffic without PASID, and an address space that is bound behind several kinds of IOMMU has one value for all.
 */
import { IommuError } from "../kernel/errno.js";

/** The largest PASID: the seed keeps them in an IDR, whose ids are positive ints. */
export const PASID_MAX = 0x7fff_ffff;

const FULL = -1;

/** Gives PASIDs out and takes them back. */
export class PasidAllocator {
  /** One bit per PASID, set while it is taken. */
  readonly #words: number[] = [];
  /** All words before this one are full, but for PASID 0. */
  #firstFree = 0;
  #used = 0;

  get used(): number {
    return this.#used;
  }

  /** @param min lowest, @param max highest allowed value. @throws IommuError ENOSPC when all of them are taken */
  alloc(min: number, max: number): number {
    const pasid = this.#take(Math.max(min, 1), max) ?? (min === 0 ? this.#take(0, 0) : undefined);
    if (pasid === undefined) throw new IommuError("ENOSPC", `no PASID is free between ${min} and ${max}`);
    return pasid;
  }

  #take(min: number, max: number): number | undefined {
    const words = this.#words;
    for (let w = min === 0 ? 0 : Math.max(this.#firstFree, min >>> 5); w <= max >>> 5; w++) {
      while (words.length <= w) words.push(0);
      const below = w === min >>> 5 ? (1 << (min & 31)) - 1 : 0;
      const free = ~(words[w] | below);
      if (free === 0) continue;
      const pasid = w * 32 + (31 - Math.clz32(free & -free));
      if (pasid > max) break;
      words[w] |= 1 << (pasid & 31);
      while ((words[this.#firstFree] | Number(this.#firstFree === 0)) === FULL) this.#firstFree++;
      this.#used++;
      return pasid;
    }
    return undefined;
  }

  free(pasid: number): void {
    const w = pasid >>> 5;
    const bit = 1 << (pasid & 31);
    if ((this.#words[w] & bit) === 0) throw new Error(`PASID ${pasid} is freed twice`);
    this.#words[w] &= ~bit;
    this.#firstFree = Math.min(this.#firstFree, w);
    this.#used--;
  }
}
