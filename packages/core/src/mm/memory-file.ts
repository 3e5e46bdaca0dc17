/** A file whose bytes are pages of RAM: memfd, shmem, the page cache of a regular file. Pages come when first touched. */
import type { SystemBus } from "../bus/system-bus.js";
import { PAGE_SIZE } from "../memory/address.js";
import { type Backing, unmapMappingRange } from "./backing.js";
import type { Frames } from "./frames.js";
import type { Vma } from "./vma.js";

/** Where a file's pages come from. */
export interface FileEnvironment {
  readonly frames: Frames;
  readonly bus: SystemBus;
}

/** `mmap({ file })` maps it. */
export class MemoryFile implements Backing {
  readonly #pages = new Map<number, number>();
  readonly #vmas = new Set<Vma>();
  #size: number;
  #open = true;

  /** @param size in bytes */
  constructor(
    private readonly environment: FileEnvironment,
    readonly name: string,
    size = 0,
  ) {
    this.#size = size;
  }

  get size(): number {
    return this.#size;
  }

  page(index: number): number | undefined {
    if (index * PAGE_SIZE >= this.#size) return undefined;
    let pa = this.#pages.get(index);
    if (pa === undefined) {
      pa = this.environment.frames.alloc(`file ${this.name}`, "caches");
      this.#pages.set(index, pa);
    }
    return pa;
  }

  /** @returns bytes read: fewer at the end of the file */
  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    this.#spans(offset, length, (pa, from, to) => this.environment.bus.read(pa, into.subarray(from, to)));
    return length;
  }

  /** Extends the file when it writes beyond its end. @throws IommuError ENOMEM */
  write(offset: number, bytes: Uint8Array): void {
    this.#size = Math.max(this.#size, offset + bytes.length);
    this.#spans(offset, bytes.length, (pa, from, to) => this.environment.bus.write(pa, bytes.subarray(from, to)));
  }

  #spans(offset: number, length: number, each: (pa: number, from: number, to: number) => void): void {
    for (let done = 0; done < length; ) {
      const inside = (offset + done) % PAGE_SIZE;
      const count = Math.min(length - done, PAGE_SIZE - inside);
      const pa = this.page(Math.floor((offset + done) / PAGE_SIZE)) as number;
      each(pa + inside, done, done + count);
      done += count;
    }
  }

  /** ftruncate: pages beyond the new end leave every address space, private copies too, before they are free. */
  async truncate(size: number): Promise<void> {
    const firstGone = Math.ceil(size / PAGE_SIZE);
    const shrinks = size < this.#size;
    this.#size = size;
    if (!shrinks) return;
    await unmapMappingRange(this, this.#vmas, firstGone);
    for (const [index, pa] of this.#pages) if (index >= firstGone) this.#drop(index, pa);
    const last = this.#pages.get(firstGone - 1);
    const inside = size % PAGE_SIZE;
    if (last !== undefined && inside > 0) this.environment.bus.write(last + inside, new Uint8Array(PAGE_SIZE - inside));
  }

  #drop(index: number, pa: number): void {
    this.#pages.delete(index);
    this.environment.frames.drop(pa, "caches");
  }

  attach(vma: Vma): void {
    this.#vmas.add(vma);
  }

  detach(vma: Vma): void {
    this.#vmas.delete(vma);
    this.#release();
  }

  /** The opener's reference goes; the file lives on while it is mapped. */
  close(): void {
    this.#open = false;
    this.#release();
  }

  #release(): void {
    if (this.#open || this.#vmas.size > 0) return;
    for (const [index, pa] of this.#pages) this.#drop(index, pa);
  }
}
