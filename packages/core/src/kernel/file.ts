/** Open files and device nodes: what a task's descriptors point to. */

import type { MaySleep } from "./may-sleep.js";
import type { Task } from "./task.js";
import type { UserPointer } from "./user-memory.js";

/** file_operations. Every one may be absent: ioctl then gives ENOTTY, read and write EINVAL. */
export interface FileOps {
  /** "anon_inode:[vfio-device]", "/dev/vfio/vfio": what /proc/PID/fd shows. */
  readonly name: string;
  /** @returns a non-negative result; refusals throw IommuError */
  ioctl?(task: Task, request: number, arg: UserPointer): Promise<number>;
  read?(task: Task, into: Uint8Array, position: number): Promise<number>;
  write?(task: Task, bytes: Uint8Array, position: number): Promise<number>;
  /** Backs a mapping of this file: physical address of each page. @throws IommuError EINVAL */
  mmap?(task: Task, offset: number, length: number, write: boolean, shared: boolean): FileMapping;
  /** lseek: the new position. Absent: ESPIPE. */
  seek?(offset: number, whence: number): number;
  /** The last descriptor is gone. */
  release?(): Promise<void>;
}

/** What a file gives to mmap. */
export interface FileMapping {
  /** Physical address (RAM or a device's memory) of the page at that byte offset of the mapping; undefined gives SIGBUS. */
  page(offset: number): number | undefined;
  close(): void;
  /**
   * Called once, when memory maps it. `revoke` takes its pages out of every address space (unmap_mapping_range): from then on
   * `page` is asked anew. It takes the mmap_locks.
   */
  mapped?(revoke: () => Promise<void>): void;
}

/** An open file description, shared by dup and fork. */
export class OpenFile {
  #references = 1;
  position = 0;

  constructor(
    readonly ops: FileOps,
    readonly flags: number,
  ) {}

  get references(): number {
    return this.#references;
  }

  get(): this {
    this.#references++;
    return this;
  }

  put(): MaySleep {
    return --this.#references === 0 ? this.ops.release?.() : undefined;
  }

  /** A call on the file: it stays open until the call has returned, whoever closes its descriptors meanwhile (fdget). */
  async use<T>(call: (ops: FileOps) => Promise<T>): Promise<T> {
    this.#references++;
    try {
      return await call(this.ops);
    } finally {
      const released = this.put();
      if (released) await released;
    }
  }
}

/** Open flags, numbers of asm-generic/fcntl.h. */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  ACCMODE: 3,
  CREAT: 0o100,
  NONBLOCK: 0o4000,
  CLOEXEC: 0o2000000,
} as const;

/** A device node: opened by path. */
export interface DeviceNode {
  readonly path: string;
  open(task: Task, flags: number): Promise<FileOps>;
}
