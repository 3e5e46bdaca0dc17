/** Makes the simulated address spaces of a platform. */
import type { SystemBus } from "../bus/system-bus.js";
import type { MmFactory } from "../kernel/kernel.js";
import type { Scheduler } from "../kernel/scheduler.js";
import type { PageAllocator } from "../memory/page-allocator.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { Tracer } from "../trace/tracer.js";
import type { Mm } from "./mm.js";

export class AddressSpaces implements MmFactory {
  constructor(
    readonly memory: PhysicalMemory,
    readonly bus: SystemBus,
    readonly pages: PageAllocator,
    readonly scheduler: Scheduler,
    readonly trace: Tracer,
  ) {}

  create(owner: string): Mm {
    throw new Error(owner);
  }

  async fork(mm: Mm, owner: string): Promise<Mm> {
    throw new Error(`${mm.owner} ${owner}`);
  }
}
