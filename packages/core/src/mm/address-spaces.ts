/** Makes the simulated address spaces of a platform, and the files that they map. */
import type { SystemBus } from "../bus/system-bus.js";
import { IommuError } from "../kernel/errno.js";
import type { MmFactory } from "../kernel/kernel.js";
import type { Scheduler } from "../kernel/scheduler.js";
import { WorkQueue } from "../kernel/work-queue.js";
import type { PageAllocator } from "../memory/page-allocator.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { Tracer } from "../trace/tracer.js";
import { AddressSpace } from "./address-space.js";
import type { SimulatedEnvironment } from "./demand-paging.js";
import { Frames } from "./frames.js";
import { MemoryFile } from "./memory-file.js";
import type { Mm } from "./mm.js";

/** What a platform's processes have in common: `createPlatform({ mm })`. */
export interface AddressSpaceOptions {
  /** 5 with LA57. Default 4. */
  readonly x86Levels?: 4 | 5;
  /** User addresses end at 2 to the power of this, 32 to 56. Default 47: what 4-level x86 tables hold; arm64 alone has 48. */
  readonly addressBits?: number;
  /** Reading untouched anonymous memory maps the shared zero page. Default true, as Linux. */
  readonly zeroPage?: boolean;
  /** transparent_hugepage/enabled. Default "madvise". */
  readonly hugePages?: "always" | "madvise" | "never";
  /** RLIMIT_STACK in bytes. Default 8 MiB. */
  readonly stackLimit?: number;
}

/** The board's MmFactory. */
export class AddressSpaces implements MmFactory, SimulatedEnvironment {
  readonly frames: Frames;
  readonly workers: WorkQueue;
  readonly x86Levels: 4 | 5;
  readonly addressBits: number;
  readonly zeroPage: boolean;
  readonly hugePages: "always" | "madvise" | "never";
  readonly stackLimit: number;
  #nextId = 1;

  constructor(
    readonly memory: PhysicalMemory,
    readonly bus: SystemBus,
    readonly pages: PageAllocator,
    readonly scheduler: Scheduler,
    readonly trace: Tracer,
    options: AddressSpaceOptions = {},
  ) {
    this.frames = new Frames(pages);
    this.workers = new WorkQueue(scheduler, "events", Number.POSITIVE_INFINITY);
    this.x86Levels = options.x86Levels ?? 4;
    this.addressBits = options.addressBits ?? 47;
    if (!Number.isInteger(this.addressBits) || this.addressBits < 32 || this.addressBits > 56)
      throw new IommuError("EINVAL", `user addresses of ${this.addressBits} bits; 32 to 56 are possible`);
    this.zeroPage = options.zeroPage ?? true;
    this.hugePages = options.hugePages ?? "madvise";
    this.stackLimit = options.stackLimit ?? 8 * 1024 * 1024;
  }

  create(owner: string): AddressSpace {
    return new AddressSpace(this, owner);
  }

  async fork(mm: Mm, owner: string): Promise<Mm> {
    if (!(mm instanceof AddressSpace))
      throw new IommuError("EINVAL", `${mm.owner} is not a simulated address space: it cannot be forked`);
    return mm.fork(owner);
  }

  /** A file in memory, as memfd_create gives it; `close` it when done. */
  createFile(name: string, size = 0): MemoryFile {
    return new MemoryFile(this, name, size);
  }

  nextMmId(): number {
    return this.#nextId++;
  }
}
