/** What every part of the driver of one remapping unit works with: the surroundings that it was given, and what its chip can do. */
import {
  type InterruptController,
  join64,
  type Kernel,
  type Mmio,
  type PageAllocator,
  type PhysicalMemory,
  type Scheduler,
  type Tracer,
  type Variants,
} from "@iommukit/core";
import type { VtdDriverOptions } from "./options.js";
import type { Features } from "./probe.js";

export interface Unit {
  /** "vtd": the instance's name on the platform, in traces and owners of memory. */
  readonly name: string;
  /** "dmar0": the name in Linux's messages. */
  readonly dmar: string;
  readonly mmio: Mmio;
  readonly memory: PhysicalMemory;
  readonly pages: PageAllocator;
  readonly interrupts: InterruptController;
  readonly scheduler: Scheduler;
  readonly trace: Tracer;
  readonly kernel: Kernel;
  readonly variants: Variants;
  readonly options: VtdDriverOptions;
  readonly features: Features;
}

/** One aligned 8-byte store to a table entry, seen in the trace. */
export function storeEntry(unit: Unit, table: string, address: number, hi: number, lo: number): void {
  unit.memory.store64(address, hi, lo);
  if (unit.trace.wants("table:written"))
    unit.trace.emit("table:written", { by: unit.name, table, address, value: join64(hi, lo) });
}
