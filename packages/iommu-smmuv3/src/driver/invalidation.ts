/**
 * IOTLB and ATC invalidation. The IOTLB always first, completed by a CMD_SYNC, then the ATCs (C8): an ATC that refilled from a stale
 * IOTLB entry would keep it. Which ATCs there are is looked at only after that CMD_SYNC: a device whose ATS was enabled before has put
 * itself into the array, one whose ATS is enabled later finds nothing stale (the pairing of arm_smmu_atc_inv_domain).
 */
import { NO_PASID } from "@iommukit/core";
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

const MAX_NUM = 31;
const MAX_SCALE = 31;

export class Invalidation {
  /** log2 of the smallest page: what a range counts in. */
  readonly #pageShift: number;

  constructor(
    private readonly context: DriverContext,
    private readonly commands: CommandQueue,
    private readonly features: Smmuv3Features,
    /** False for functions that cannot answer: unplugged, or their ATS was disabled by a reset (I13, L-23, L-24). */
    private readonly reachable: (sid: number) => boolean,
  ) {
    this.#pageShift = smallestPageShift(features);
  }

  /** Returns when nobody uses what stood in the ranges before. */
  async ranges(array: InvalidationArray, ranges: readonly InvalidationRange[]): Promise<void> {
    const live = () => array.items.filter(({ users }) => users > 0);
    if (this.context.variants.has("L-1")) {
      await this.#atcs(live(), ranges);
      await this.#iotlb(live(), ranges);
      return;
    }
    // L-2: the devices are counted too early.
    const early = this.context.variants.has("L-2") ? live() : undefined;
    await this.context.scheduler.point("tables changed");
    await this.#iotlb(live(), ranges);
    await this.#atcs(early ?? live(), ranges);
  }

  /** The tag's entries only. For one that nobody uses any more, so that it can be given out again. */
  async tag(item: InvalidationItem): Promise<void> {
    await this.#iotlb([item], [EVERYTHING]);
  }

  /** The ATC of one function: all of one PASID, or all there is with NO_PASID. */
  async atc(sid: number, ssid = NO_PASID): Promise<void> {
    if (this.reachable(sid)) await this.commands.issueSync(atcInv(sid, ssid, 0n, 0n));
  }

  /** Stage-2 entries leave before the stage-1 entries that were made with them. */
  async #iotlb(items: readonly InvalidationItem[], ranges: readonly InvalidationRange[]): Promise<void> {
    const tags = items.filter(({ type }) => type === InvalidationType.S1_ASID || type === InvalidationType.S2_VMID);
    const nested = items.filter(({ type }) => type === InvalidationType.S2_VMID_S1_CLEAR);
    await this.#send(ranges.flatMap((range) => tags.flatMap((item) => this.#tagCommands(item, range))));
    await this.#send(nested.map(({ id }) => tlbiVmidStageOne(id)));
  }

  async #atcs(items: readonly InvalidationItem[], ranges: readonly InvalidationRange[]): Promise<void> {
    const commands = items.flatMap(({ type, id, ssid }) => {
      if (!isAts(type) || !this.reachable(id)) return [];
      if (type === InvalidationType.ATS_FULL) return [atcInv(id, NO_PASID, 0n, 0n)];
      return ranges.map(({ start, size }) => atcInv(id, ssid, start, size));
    });
    await this.#send(commands);
  }

  async #send(commands: readonly Command[]): Promise<void> {
    if (commands.length > 0) await this.commands.issueSync(...commands);
  }

  #tagCommands({ type, id }: InvalidationItem, range: InvalidationRange): Command[] {
    const stage1 = type === InvalidationType.S1_ASID;
    if (this.#tooLarge(range)) return [stage1 ? tlbiAsid(id) : tlbiVmid(id)];
    const template = stage1 ? tlbiVa(id, range.leaf) : tlbiIpa(id, range.leaf);
    return this.features.rangeInvalidation ? this.#byRange(template, range) : byPage(template, range);
  }

  /** One command per page would take too long (C7): the whole tag goes instead. */
  #tooLarge({ size, granule }: InvalidationRange): boolean {
    if (size === 0n) return true;
    if (this.features.rangeInvalidation || this.context.variants.has("L-25")) return false;
    return size >= BigInt(granule / 8) * BigInt(granule);
  }

  /** Ranges of (NUM + 1) * 2^SCALE pages, five bits of the page count at a time (IHI 0070 4.4.1.1). */
  #byRange(template: Command, { start, size, granule, leaf }: InvalidationRange): Command[] {
    const shift = this.#pageShift;
    const tg = (shift - 10) / 2;
    // The level of other than leaf entries is not known; one page without a level would not be a range.
    const ttl = leaf ? 4 - Math.floor((Math.log2(granule) - 3) / (shift - 3)) : 0;
    let pages = size >> BigInt(shift);
    if (!leaf && (pages & BigInt(MAX_NUM)) === 1n) pages++;
    const commands: Command[] = [];
    for (let address = start; pages > 0n; ) {
      const scale = Math.min((pages & -pages).toString(2).length - 1, MAX_SCALE);
      const chunks = Number((pages >> BigInt(scale)) & BigInt(MAX_NUM)) || MAX_NUM;
      commands.push(at(template, address, tg, ttl, chunks - 1, scale));
      const done = BigInt(chunks) << BigInt(scale);
      address += done << BigInt(shift);
      pages -= done;
    }
    return commands;
  }
}

function isAts(type: number): boolean {
  return type === InvalidationType.ATS || type === InvalidationType.ATS_FULL;
}

function byPage(template: Command, { start, size, granule }: InvalidationRange): Command[] {
  const commands: Command[] = [];
  for (let address = start; address < start + size; address += BigInt(granule)) commands.push(at(template, address));
  return commands;
}
