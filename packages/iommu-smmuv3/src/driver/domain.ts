/**
 * An address space for DMA: page tables of stage 1 under an ASID, or of stage 2 under a VMID; or none, for bypass and abort.
 * `map` and `unmap` only change tables. What they leave to be invalidated waits here and in the gather, and so do the pages of
 * tables that were cut off: they are free only when no walk can be on its way through them any more.
 */
import {
  type Aperture,
  after,
  type DomainType,
  hex,
  type IommuDomain,
  IommuError,
  type IommuOps,
  type IotlbGather,
  isErrno,
  type MaySleep,
  toBigint,
} from "@iommukit/core";
import type { DriverContext } from "./driver-context.js";
import { EVERYTHING, type Invalidation, type InvalidationRange } from "./invalidation.js";
import { InvalidationArray, type InvalidationItem, InvalidationType } from "./invalidation-array.js";
import type { Master } from "./master.js";
import { IoPageTable, type PageTableFlush } from "./page-table.js";
import { type PageTableConfig, PageTableQuirk } from "./page-table-geometry.js";
import type { Smmuv3Features } from "./probe.js";

export type Stage = "s1" | "s2" | "bypass" | "abort";

/** CONFIG_ARM64_VA_BITS of the kernel: stage 1 gives out no more. */
const VA_BITS = 48;
const WHOLE_SPACE: Aperture = { start: 0n, end: 0xffff_ffff_ffff_ffffn };

export class Smmuv3Domain implements IommuDomain, PageTableFlush {
  readonly id: number;
  pgsizeBitmap = 0n;
  aperture: Aperture = WHOLE_SPACE;
  /** ASID of stage 1, VMID of stage 2. */
  tag = 0;
  table: IoPageTable | undefined;
  readonly invalidations = new InvalidationArray();
  readonly masters = new Set<Master>();
  /** Ranges whose tables changed and that no gather holds. */
  #pending: InvalidationRange[] = [];
  #freed: number[] = [];

  #stage: Stage;

  constructor(
    readonly type: DomainType,
    readonly ops: IommuOps,
    stage: Stage,
    private readonly context: DriverContext,
    private readonly features: Smmuv3Features,
    private readonly invalidation: Invalidation,
  ) {
    this.id = context.kernel.nextDomainId();
    this.#stage = stage;
    this.pgsizeBitmap = features.pgsizeBitmap;
    if (stage === "s1" || stage === "s2") this.#makeTable(stage);
  }

  get stage(): Stage {
    return this.#stage;
  }

  #makeTable(stage: "s1" | "s2"): void {
    const table = new IoPageTable(
      this.#config(stage),
      this.context.memory,
      {
        alloc: (bytes) => this.context.alloc(bytes, `domain ${this.id} page table`),
        free: (pa) => this.#freed.push(pa),
      },
      this,
      (reason) => this.context.print(`WARNING: domain ${this.id}: ${reason}`),
    );
    this.table = table;
    this.pgsizeBitmap = table.geometry.pgsizeBitmap;
    this.aperture = { start: 0n, end: table.size - 1n };
  }

  /** Empty tables of stage 2 instead of stage 1. The domain is on no device. */
  useStageTwo(vmid: number, freeAsid: (asid: number) => void): void {
    if (this.#stage === "s1") freeAsid(this.tag);
    this.#freeTables();
    this.#stage = "s2";
    this.tag = vmid;
    this.#makeTable("s2");
  }

  #config(stage: "s1" | "s2"): PageTableConfig {
    const { coherent, oas, pgsizeBitmap, wideVirtual } = this.features;
    const ias = stage === "s1" ? Math.min(wideVirtual ? 52 : 48, VA_BITS) : oas;
    const format = stage === "s1" ? "ARM_64_LPAE_S1" : "ARM_64_LPAE_S2";
    return { format, pgsizeBitmap, ias, oas, quirks: PageTableQuirk.NO_WARN, coherentWalk: coherent };
  }

  get paging(): boolean {
    return this.table !== undefined;
  }

  /** The IOTLB entries of the domain. */
  get tagItem(): InvalidationItem {
    const type = this.stage === "s1" ? InvalidationType.S1_ASID : InvalidationType.S2_VMID;
    return { type, id: this.tag, ssid: 0 };
  }

  #tables(what: string): IoPageTable {
    if (!this.table) throw new IommuError("EINVAL", `${what}: a domain of type ${this.type} has no page tables`);
    return this.table;
  }

  /** @returns bytes mapped: less than asked when a later part could not be. @throws IommuError when nothing could */
  map(iova: bigint, pa: number, pgsize: number, count: number, prot: number): number {
    const table = this.#tables("map");
    const total = count * pgsize;
    let mapped = 0;
    try {
      while (mapped < total) {
        mapped += table.map(plus(iova, mapped), pa + mapped, pgsize, (total - mapped) / pgsize, prot);
      }
    } catch (error) {
      if (mapped === 0 || !isErrno(error)) throw error;
    }
    return mapped;
  }

  unmap(iova: bigint, pgsize: number, count: number, gather: IotlbGather): number {
    const table = this.#tables("unmap");
    const total = count * pgsize;
    let unmapped = 0;
    while (unmapped < total) {
      const done = table.unmap(plus(iova, unmapped), pgsize, (total - unmapped) / pgsize, gather);
      if (done === 0) break;
      unmapped += done;
    }
    return unmapped;
  }

  /** A gather holds one range of one page size; what does not join it waits beside it. */
  addPages(gather: IotlbGather, iova: bigint, granule: number, count: number): void {
    const last = iova + toBigint(granule * count - 1);
    if (gather.pgsize === granule && iova <= gather.end + 1n && last + 1n >= gather.start) {
      if (iova < gather.start) gather.start = iova;
      if (last > gather.end) gather.end = last;
      return;
    }
    if (gather.pgsize !== 0) this.#pending.push(gathered(gather));
    gather.start = iova;
    gather.end = last;
    gather.pgsize = granule;
  }

  flushWalk(iova: bigint, size: number, granule: number): void {
    this.#pending.push({ start: iova, size: BigInt(size), granule, leaf: false });
  }

  /** Completes an unmap, and whatever else waits. */
  sync(gather?: IotlbGather): MaySleep {
    if (gather && gather.pgsize !== 0) this.#pending.push(gathered(gather));
    return this.#invalidate(this.#pending);
  }

  flushAll(): MaySleep {
    return this.#invalidate([EVERYTHING]);
  }

  /** All that is pending is among the ranges. Tables that were cut off are freed when nobody can walk them any more. */
  #invalidate(ranges: readonly InvalidationRange[]): MaySleep {
    const freed = this.#freed;
    // Most maps have nothing to wait for.
    if (ranges.length === 0 && freed.length === 0) return undefined;
    this.#pending = [];
    this.#freed = [];
    const invalidated = ranges.length > 0 ? this.invalidation.ranges(this.invalidations, ranges) : undefined;
    return freed.length > 0 ? after(invalidated, () => this.#free(freed)) : invalidated;
  }

  #free(tables: readonly number[]): undefined {
    for (const pa of tables) this.context.pages.free(pa);
  }

  /** The domain is on no device, and its tag has left the IOTLB. @throws IommuError EBUSY otherwise */
  free(): void {
    if (this.masters.size > 0) {
      throw new IommuError("EBUSY", `domain ${this.id} with ${hex(this.tag)} is on ${this.masters.size} devices`);
    }
    this.#freeTables();
  }

  #freeTables(): void {
    this.table?.free();
    this.table = undefined;
    for (const pa of this.#freed.splice(0)) this.context.pages.free(pa);
  }
}

/** `iova` itself at the start, where most ranges end. */
function plus(iova: bigint, offset: number): bigint {
  return offset === 0 ? iova : iova + toBigint(offset);
}

function gathered({ start, end, pgsize }: IotlbGather): InvalidationRange {
  return { start, size: end - start + 1n, granule: pgsize, leaf: true };
}
