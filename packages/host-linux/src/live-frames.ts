/**
 * Physical frames whose bytes are those of running processes. Each resident page of a live address space gets a frame
 * in a window of the physical address space above RAM; a DMA to it reads or writes the process through /proc/PID/mem.
 */
import type { BusRegion } from "@iommukit/core";
import type { ProcessFiles } from "./process-files.js";

const PAGE_SIZE = 4096;

interface Frame {
  readonly files: ProcessFiles;
  readonly page: bigint;
}

/** First frame: 64 TiB, above any RAM that a platform has. */
const WINDOW_BASE = 0x4000_0000_0000;
const WINDOW_SIZE = 0x4000_0000_0000;

export class LiveFrames implements BusRegion {
  readonly name = "frames of running processes";
  readonly base = WINDOW_BASE;
  readonly size = WINDOW_SIZE;
  readonly #frames: (Frame | undefined)[] = [];
  readonly #free: number[] = [];

  /** @returns the physical address of a frame for that page of the process */
  allocate(files: ProcessFiles, page: bigint): number {
    const index = this.#free.pop() ?? this.#frames.length;
    this.#frames[index] = { files, page };
    return WINDOW_BASE + index * PAGE_SIZE;
  }

  free(pa: number): void {
    const index = (pa - WINDOW_BASE) / PAGE_SIZE;
    this.#frames[index] = undefined;
    this.#free.push(index);
  }

  get used(): number {
    return this.#frames.length - this.#free.length;
  }

  read(offset: number, into: Uint8Array): boolean {
    return this.#each(offset, into, (frame, address, part) => frame.files.read(address, part) === part.length);
  }

  write(offset: number, bytes: Uint8Array): boolean {
    return this.#each(offset, bytes, (frame, address, part) => frame.files.write(address, part) === part.length);
  }

  #each(
    offset: number,
    bytes: Uint8Array,
    access: (frame: Frame, address: bigint, part: Uint8Array) => boolean,
  ): boolean {
    for (let done = 0; done < bytes.length; ) {
      const inPage = (offset + done) % PAGE_SIZE;
      const frame = this.#frames[(offset + done - inPage) / PAGE_SIZE];
      const count = Math.min(bytes.length - done, PAGE_SIZE - inPage);
      if (!frame || !access(frame, frame.page + BigInt(inPage), bytes.subarray(done, done + count))) return false;
      done += count;
    }
    return true;
  }
}
