/** What a mapping shows when it is not private anonymous memory: a file in memory, or a device's memory. */
import type { FileMapping } from "../kernel/file.js";
import { PAGE_SIZE } from "../memory/address.js";
import type { Vma, VmaOwner } from "./vma.js";

/** Pages of a mapping by their number in the file or device. */
export interface Backing {
  /**
   * Physical address of the page at that index, allocated if need be; undefined beyond the end: SIGBUS.
   * @throws IommuError ENOMEM
   */
  page(index: number): number | undefined;
  attach(vma: Vma): void;
  detach(vma: Vma): void;
}

/**
 * unmap_mapping_range: takes pages of the backing out of every address space. While one waits for its mmap_lock, mappings are
 * split, moved and forked: an address space looks for them itself, and a set's iteration reaches those that have come.
 */
export async function unmapMappingRange(
  backing: Backing,
  mappings: ReadonlySet<Vma>,
  firstIndex: number,
  limitIndex = Number.POSITIVE_INFINITY,
): Promise<void> {
  const done = new Set<VmaOwner>();
  for (const { owner } of mappings) {
    if (done.has(owner)) continue;
    done.add(owner);
    await owner.zap(backing, firstIndex, limitIndex);
  }
}

/** What a driver's mmap gave: closed with the last mapping of it. */
export class DeviceBacking implements Backing {
  readonly #vmas = new Set<Vma>();

  constructor(private readonly mapping: FileMapping) {
    mapping.mapped?.(() => unmapMappingRange(this, this.#vmas, 0));
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
