/**
 * The CD table of one device (IHI 0070 3.3.2), an entry per SubstreamID; entry 0 serves transactions without one. Linear, or in
 * two levels whose second one is made when a PASID of it is first bound.
 */
import { hex, IommuError } from "@iommukit/core";
import { CD, CD_SPLIT, L1CD } from "../spec/context-descriptor.js";
import { STE_S1FMT } from "../spec/stream-table.js";
import type { CommandQueue } from "./command-queue.js";
import { cfgiCd } from "./commands.js";
import type { DriverContext } from "./driver-context.js";
import { CD_RULES } from "./entry-rules.js";
import { EntryWriter } from "./entry-writer.js";
import type { CdTableReference } from "./stes.js";

/** log2 of the CDs of a 64 KiB leaf; tables up to this size are linear. */
const SPLIT = CD_SPLIT.twoLevel64K;
/** Linux's CTXDESC_LINEAR_CDMAX: what a table without levels may have. */
export const LINEAR_CD_BITS = 10;

export class CdTable implements CdTableReference {
  readonly base: number;
  readonly format: number;
  readonly #twoLevel: boolean;
  readonly #leaves = new Map<number, number>();
  readonly #writer: EntryWriter;
  /** PASIDs that have a valid entry, entry 0 not counted. */
  readonly inUse = new Set<number>();

  /** @throws IommuError ENOMEM */
  constructor(
    private readonly context: DriverContext,
    private readonly commands: CommandQueue,
    private readonly sid: number,
    readonly cdMax: number,
    twoLevel: boolean,
  ) {
    this.#twoLevel = twoLevel && cdMax > SPLIT;
    this.format = this.#twoLevel ? STE_S1FMT.twoLevel64K : STE_S1FMT.linear;
    const bytes = this.#twoLevel ? L1CD.bytes * 2 ** (cdMax - SPLIT) : CD.bytes * 2 ** cdMax;
    this.base = context.alloc(bytes, "CD table");
    this.#writer = new EntryWriter(context.memory, context.scheduler, CD_RULES, context.stored("CD"));
  }

  /** Makes the entry's table, so that `write` does not fail. @throws IommuError ERANGE a PASID beyond the table, ENOMEM */
  async prepare(ssid: number): Promise<void> {
    await this.#entry(ssid);
  }

  /** @throws IommuError ERANGE a PASID beyond the table, ENOMEM */
  async write(ssid: number, cd: Int32Array): Promise<void> {
    const at = await this.#entry(ssid);
    const sync = async () => {
      await this.commands.issueSync(cfgiCd(this.sid, ssid, true));
    };
    if (this.context.variants.has("L-8")) await this.#writer.overwrite(at, cd, sync);
    else await this.#writer.write(at, cd, sync);
    if (ssid === 0) return;
    if (CD.V.get(cd) === 1) this.inUse.add(ssid);
    else this.inUse.delete(ssid);
  }

  /** Makes the entry invalid. The table stays as large as it is. */
  async clear(ssid: number): Promise<void> {
    await this.write(ssid, new Int32Array(CD.words));
  }

  async #entry(ssid: number): Promise<number> {
    if (ssid >= 2 ** this.cdMax) {
      throw new IommuError(
        "ERANGE",
        `${this.context.name}: PASID ${hex(ssid)} of stream ${hex(this.sid)} needs more than ${this.cdMax} bits`,
      );
    }
    if (!this.#twoLevel) return this.base + CD.bytes * ssid;
    const slot = ssid >>> SPLIT;
    const leaf = this.#leaves.get(slot) ?? (await this.#addLeaf(slot));
    return leaf + CD.bytes * (ssid & (2 ** SPLIT - 1));
  }

  async #addLeaf(slot: number): Promise<number> {
    const { context } = this;
    const leaf = context.alloc(CD.bytes * 2 ** SPLIT, "CD table, level 2");
    this.#leaves.set(slot, leaf);
    const [lo, hi] = L1CD.encode({ V: true, L2Ptr: leaf });
    context.memory.store64(this.base + L1CD.bytes * slot, hi, lo);
    // Level 1 descriptors are cached also while they are invalid.
    await this.commands.issueSync(cfgiCd(this.sid, slot * 2 ** SPLIT, false));
    return leaf;
  }

  free(): void {
    for (const leaf of this.#leaves.values()) this.context.pages.free(leaf);
    this.context.pages.free(this.base);
  }
}
