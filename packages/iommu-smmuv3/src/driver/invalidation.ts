/**
 * IOTLB and ATC invalidation. The IOTLB always first, completed by a CMD_SYNC, then the ATCs (C8): an ATC that refilled from a stale
 * IOTLB entry would keep it. Which ATCs there are is looked at only after that CMD_SYNC: a device whose ATS was enabled before has put
 * itself into the array, one whose ATS is enabled later finds nothing stale (the pairing of arm_smmu_atc_inv_domain).
 */
import { after, type MaySleep, NO_PASID, toBigint, toNumber } from "@iommukit/core";
import type { Command, CommandQueue } from "./command-queue.js";
import { at, atcInv, tlbiAsid, tlbiIpa, tlbiVa, tlbiVmid, tlbiVmidStageOne } from "./commands.js";
import type { DriverContext } from "./driver-context.js";
import { type InvalidationArray, type InvalidationItem, InvalidationType } from "./invalidation-array.js";
import { type Smmuv3Features, smallestPageShift } from "./probe.js";

/** A range that changed. */
export interface InvalidationRange {
  readonly start: bigint;
  /** Bytes; 0 for everything. */
  readonly size: bigint;
  /** Bytes of a leaf entry, or the smallest page for cut-off tables. */
  readonly granule: number;
  /** Only leaf entries changed. */
  readonly leaf: boolean;
}

export const EVERYTHING: InvalidationRange = { start: 0n, size: 0n, granule: 0x1000, leaf: false };

/** tlbiVa or tlbiIpa. */
type ByAddress = (id: number, leaf: boolean) => Command;

const MAX_NUM = 31;
/** Five bits of the page count go into one command. */
const CHUNKS = 32;
const MAX_SCALE = 31;

export class Invalidation {
  /** The smallest page, which a range counts in: log2, and bytes. */
  readonly #pageShift: number;
  readonly #pageSize: number;

  constructor(
    private readonly context: DriverContext,
    private readonly commands: CommandQueue,
    private readonly features: Smmuv3Features,
    /** False for functions that cannot answer: unplugged, or their ATS was disabled by a reset (I13, L-23, L-24). */
    private readonly reachable: (sid: number) => boolean,
  ) {
    this.#pageShift = smallestPageShift(features);
    this.#pageSize = 2 ** this.#pageShift;
  }

  /** Returns when nobody uses what stood in the ranges before. */
  ranges(array: InvalidationArray, ranges: readonly InvalidationRange[]): MaySleep {
    const { scheduler, variants } = this.context;
    if (variants.has("L-1")) return after(this.#atcs(array.live, ranges), () => this.#iotlb(array.live, ranges));
    // L-2: the devices are counted too early.
    const early = variants.has("L-2") ? array.live : undefined;
    return after(scheduler.point("tables changed"), () =>
      after(this.#iotlb(array.live, ranges), () => this.#atcs(early ?? array.live, ranges)),
    );
  }

  /** The tag's entries only. For one that nobody uses any more, so that it can be given out again. */
  async tag(item: InvalidationItem): Promise<void> {
    await this.#iotlb([item], [EVERYTHING]);
  }

  /** The ATC of one function: all of one PASID, or all there is with NO_PASID. */
  async atc(sid: number, ssid = NO_PASID): Promise<void> {
    if (this.reachable(sid)) await this.commands.issueSync(atcInv(sid, ssid, 0n, 0n));
  }

  /** The same for a function whose ATS the driver has just turned off: it answers all the same. */
  async atcOff(sid: number): Promise<void> {
    await this.commands.issueSync(atcInv(sid, NO_PASID, 0n, 0n));
  }

  /** Stage-2 entries leave before the stage-1 entries that were made with them. */
  #iotlb(items: readonly InvalidationItem[], ranges: readonly InvalidationRange[]): MaySleep {
    const commands: Command[] = [];
    const nested: Command[] = [];
    for (const range of ranges) {
      for (const item of items) if (isTag(item.type)) this.#tagCommands(item, range, commands);
    }
    for (const { type, id } of items) if (type === InvalidationType.S2_VMID_S1_CLEAR) nested.push(tlbiVmidStageOne(id));
    return after(this.#complete(commands), () => this.#complete(nested));
  }

  #atcs(items: readonly InvalidationItem[], ranges: readonly InvalidationRange[]): MaySleep {
    const commands: Command[] = [];
    for (const { type, id, ssid } of items) {
      if (!isAts(type) || !this.reachable(id)) continue;
      if (type === InvalidationType.ATS_FULL) commands.push(atcInv(id, NO_PASID, 0n, 0n));
      else for (const { start, size } of ranges) commands.push(atcInv(id, ssid, start, size));
    }
    return this.#complete(commands);
  }

  #complete(commands: readonly Command[]): MaySleep {
    return commands.length > 0 ? this.commands.issueSync(...commands) : undefined;
  }

  #tagCommands({ type, id }: InvalidationItem, range: InvalidationRange, into: Command[]): void {
    const stage1 = type === InvalidationType.S1_ASID;
    if (this.#tooLarge(range)) {
      into.push(stage1 ? tlbiAsid(id) : tlbiVmid(id));
      return;
    }
    const command = stage1 ? tlbiVa : tlbiIpa;
    if (this.features.rangeInvalidation) this.#byRange(command, id, range, into);
    else byPage(command, id, range, into);
  }

  /** One command per page would take too long (C7): the whole tag goes instead. */
  #tooLarge({ size, granule }: InvalidationRange): boolean {
    if (size === 0n) return true;
    if (this.features.rangeInvalidation || this.context.variants.has("L-25")) return false;
    return size >= BigInt(granule / 8) * BigInt(granule);
  }

  /** Ranges of (NUM + 1) * 2^SCALE pages, five bits of the page count at a time (IHI 0070 4.4.1.1). */
  #byRange(command: ByAddress, id: number, { start, size, granule, leaf }: InvalidationRange, into: Command[]): void {
    const shift = this.#pageShift;
    const tg = (shift - 10) / 2;
    // The level of other than leaf entries is not known; one page without a level would not be a range.
    const ttl = leaf ? 4 - Math.floor((Math.log2(granule) - 3) / (shift - 3)) : 0;
    let pages = Math.floor(toNumber(size) / this.#pageSize);
    if (!leaf && pages % CHUNKS === 1) pages++;
    for (let address = start; pages > 0; ) {
      let scale = 0;
      let scaled = pages;
      for (; scale < MAX_SCALE && scaled % 2 === 0; scale++) scaled /= 2;
      const chunks = scaled % CHUNKS || MAX_NUM;
      into.push(at(command(id, leaf), address, tg, ttl, chunks - 1, scale));
      const done = chunks * (pages / scaled);
      pages -= done;
      if (pages > 0) address += toBigint(done * this.#pageSize);
    }
  }
}

function isTag(type: number): boolean {
  return type === InvalidationType.S1_ASID || type === InvalidationType.S2_VMID;
}

function isAts(type: number): boolean {
  return type === InvalidationType.ATS || type === InvalidationType.ATS_FULL;
}

function byPage(
  command: ByAddress,
  id: number,
  { start, size, granule, leaf }: InvalidationRange,
  into: Command[],
): void {
  for (let address = start; address < start + size; address += BigInt(granule))
    into.push(at(command(id, leaf), address));
}
