/** What a mapping shows when it is not private anonymous memory: a file in memory, or a device's memory. */
import type { FileMapping } from "../kernel/file.js";
import { PAGE_SIZE } from "../memory/address.js";
import type { Vma } from "./vma.js";

export interface Backing {
  /**
   * Physical address of the page at that index, allocated if need be; undefined beyond the end: SIGBUS.
   * @throws IommuError ENOMEM
   */
  page(index: number): number | undefined;
  attach(vma: Vma): void;
  detach(vma: Vma): void;
}

/** What a driver's mmap gave: closed with the last mapping of it. */
export class DeviceBacking implements Backing {
  readonly #vmas = new Set<Vma>();

  constructor(private readonly mapping: FileMapping) {
    mapping.mapped?.(async () => {
      for (const vma of [...this.#vmas]) await vma.owner.zap(vma, 0, Number.POSITIVE_INFINITY);
    });
  }

  page(index: number): number | undefined {
    return this.mapping.page(index * PAGE_SIZE);
  }

  attach(vma: Vma): void {
    this.#vmas.add(vma);
  }

  detach(vma: Vma): void {
    this.#vmas.delete(vma);
    if (this.#vmas.size === 0) this.mapping.close();
  }
}
