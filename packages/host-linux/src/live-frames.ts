/**
 * Physical frames whose bytes are those of running processes. Each resident page of a live address space gets a frame
 * in a window of the physical address space above RAM; a DMA to it reads or writes the process through /proc/PID/mem.
 * A frame that is pinned outlives its page: it keeps the bytes when the process takes the page away.
 */
import type { BusRegion } from "@iommukit/core";
import type { ProcessFiles } from "./process-files.js";

const PAGE_SIZE = 4096;

interface Frame {
  readonly files: ProcessFiles;
  page: bigint;
  /** The page has left the process: these are its bytes. */
  bytes?: Uint8Array;
}

export interface LiveFramesOptions {
  /** First frame's physical address; 64 TiB when absent, above any RAM that a platform has. */
  readonly base?: number;
  /** Bytes of the window; 64 TiB when absent. */
  readonly size?: number;
}

const WINDOW = 0x4000_0000_0000;

export class LiveFrames implements BusRegion {
  readonly name = "frames of running processes";
  readonly base: number;
  readonly size: number;
  readonly #frames: (Frame | undefined)[] = [];
  readonly #free: number[] = [];

  constructor({ base = WINDOW, size = WINDOW }: LiveFramesOptions = {}) {
    this.base = base;
    this.size = size;
  }

  /** @returns the physical address of a frame for that page of the process */
  allocate(files: ProcessFiles, page: bigint): number {
    const index = this.#free.pop() ?? this.#frames.length;
    this.#frames[index] = { files, page };
    return this.base + index * PAGE_SIZE;
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
    this.#free.push(index);
  }

  #index(pa: number): number {
    return (pa - this.base) / PAGE_SIZE;
  }

  get used(): number {
    return this.#frames.length - this.#free.length;
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
