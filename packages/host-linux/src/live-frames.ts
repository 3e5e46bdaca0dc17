/**
 * Physical frames whose bytes are those of running processes. Each resident page of a live address space gets a frame
 * in a window of the physical address space above RAM; a DMA to it reads or writes the process through /proc/PID/mem.
 * A frame that is pinned outlives its page: it keeps the bytes when the process takes the page away.
 */
import { type BusRegion, IommuError } from "@iommukit/core";
import type { ProcessFiles } from "./process-files.js";

const PAGE_SIZE = 4096;

interface Frame {
  readonly files: ProcessFiles;
  page: bigint;
  /** The page has left the process: these are its bytes. */
  bytes?: Uint8Array;
}

/** Where the window of frames is. */
export interface LiveFramesOptions {
  /** First frame's physical address; 64 TiB when absent, above any RAM that a platform has. */
  readonly base?: number;
  /** Bytes of the window; 64 TiB when absent. */
  readonly size?: number;
}

const WINDOW = 0x4000_0000_0000;

/** The frames of a platform's live processes. */
export class LiveFrames implements BusRegion {
  readonly name = "frames of running processes";
  readonly base: number;
  readonly size: number;
  readonly #frames: (Frame | undefined)[] = [];
  #used = 0;
  /** No frame below it is free. */
  #lowest = 0;

  constructor({ base = WINDOW, size = WINDOW }: LiveFramesOptions = {}) {
    this.base = base;
    this.size = size;
  }

  /**
   * @returns the physical address of a frame for that page of the process: the lowest that is free
   * @throws IommuError ENOMEM when the window is full
   */
  allocate(files: ProcessFiles, page: bigint): number {
    if (this.#used === this.#frames.length) this.#lowest = this.#used;
    while (this.#frames[this.#lowest]) this.#lowest++;
    const pa = this.base + this.#lowest * PAGE_SIZE;
    if (!this.claim(pa, files, page))
      throw new IommuError("ENOMEM", `all ${this.#used} frames for pages of running processes are in use`);
    return pa;
  }

  /** Takes that very frame, so that pages which follow one another do so in physical memory. @returns whether it was free */
  claim(pa: number, files: ProcessFiles, page: bigint): boolean {
    const index = this.#index(pa);
    if (index > this.#frames.length || this.#frames[index] || pa >= this.base + this.size) return false;
    this.#frames[index] = { files, page };
    this.#used++;
    return true;
  }

  /** The process is about to lose the page: the frame keeps what it holds. */
  detach(pa: number): void {
    const frame = this.#frames[this.#index(pa)];
    if (!frame || frame.bytes) return;
    const bytes = new Uint8Array(PAGE_SIZE);
    frame.files.read(frame.page, bytes);
    frame.bytes = bytes;
  }

  /** The process has the page at another address now. */
  move(pa: number, page: bigint): void {
    const frame = this.#frames[this.#index(pa)];
    if (frame) frame.page = page;
  }

  free(pa: number): void {
    const index = this.#index(pa);
    this.#frames[index] = undefined;
    this.#lowest = Math.min(this.#lowest, index);
    this.#used--;
  }

  #index(pa: number): number {
    return (pa - this.base) / PAGE_SIZE;
  }

  get used(): number {
    return this.#used;
  }

  read(offset: number, into: Uint8Array): boolean {
    return this.#each(offset, into, readFrame);
  }

  write(offset: number, bytes: Uint8Array): boolean {
    return this.#each(offset, bytes, writeFrame);
  }

  #each(offset: number, bytes: Uint8Array, access: typeof readFrame): boolean {
    for (let done = 0; done < bytes.length; ) {
      const inPage = (offset + done) % PAGE_SIZE;
      const frame = this.#frames[(offset + done - inPage) / PAGE_SIZE];
      const count = Math.min(bytes.length - done, PAGE_SIZE - inPage);
      if (!frame || !access(frame, inPage, bytes.subarray(done, done + count))) return false;
      done += count;
    }
    return true;
  }
}

function readFrame({ files, page, bytes }: Frame, inPage: number, into: Uint8Array): boolean {
  if (!bytes) return files.read(page + BigInt(inPage), into) === into.length;
  into.set(bytes.subarray(inPage, inPage + into.length));
  return true;
}

function writeFrame({ files, page, bytes }: Frame, inPage: number, from: Uint8Array): boolean {
  if (!bytes) return files.write(page + BigInt(inPage), from) === from.length;
  bytes.set(from, inPage);
  return true;
}
