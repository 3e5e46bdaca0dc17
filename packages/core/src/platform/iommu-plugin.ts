/**
 * An IOMMU as a plugin: a plain value that makes a chip and its driver on a board. The n-th IOMMU of a platform
 * translates for PCI segment n, so that several can live side by side.
 */
import type { DependencyContainer } from "tsyringe";
import type { AnyLayout } from "../bits/layout.js";
import type { IommuChip } from "../bus/ports.js";
import type { IommuOps } from "../iommu/iommu-ops.js";

/** A kind of entry that the driver writes in memory, for reports and checks. */
export interface EntryKind {
  /** Its name stands in "table:written"; bit 0 says that an entry is valid. */
  readonly layout: AnyLayout;
  /** Caches that may hold what it said, in the order in which a change invalidates them: as in "cache:invalidated", or "ATC". */
  cachedBy(entry: Int32Array): readonly string[];
  /** Where that is written. */
  readonly rule: string;
}

/** A chip with its driver, made and not yet started. */
export interface IommuInstance {
  /** Unique on the platform: "smmuv3", "vtd", "smmuv3.1". */
  readonly name: string;
  readonly chip: IommuChip;
  readonly ops: IommuOps;
  /** Entries of its tables but page tables. */
  readonly entries?: readonly EntryKind[];
  /** The driver's probe: reset, tables, queues, enable. @throws IommuError ENODEV with the missing feature */
  start(): Promise<void>;
  /** Off, and everything given back. All devices have been released. */
  stop(): Promise<void>;
}

/** For `createPlatform({ iommus })`. */
export interface IommuPlugin {
  /** "smmuv3", "vtd". */
  readonly name: string;
  /** One sentence: preset and what it can do. */
  readonly description: string;
  /**
   * @param container a child container of the platform's. Resolves ChipPorts (of this segment), ChipSocket (which takes the chip, so that
   *   an explorer sees what goes to it), PhysicalMemory, PageAllocator, SystemBus, InterruptController, Scheduler, Tracer, Kernel, Sva;
   *   the plugin registers its own beside them.
   * @param name the instance's name on this platform
   */
  create(container: DependencyContainer, name: string): IommuInstance;
}
