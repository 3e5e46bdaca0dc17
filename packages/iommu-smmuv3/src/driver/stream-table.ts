/**
 * The stream table (IHI 0070 3.3.1): linear, or in two levels whose second one is made when a stream of it is first used. Every
 * stream starts out aborted.
 */
import { hex, IommuError } from "@iommukit/core";
import { STRTAB_BASE, STRTAB_BASE_CFG } from "../spec/registers.js";
import { L1STD, STE } from "../spec/stream-table.js";
import type { DriverContext } from "./driver-context.js";
import { type Smmuv3Features, STREAM_TABLE_SPLIT } from "./probe.js";
import { writeRegister } from "./registers.js";
import { abortSte } from "./stes.js";

const ABORT = abortSte();
/** STRTAB_L1_SZ_SHIFT: the first level takes 1 MiB at most. */
const MAX_FIRST_LEVEL_BITS = 17;

export class StreamTable {
  readonly #base: number;
  readonly #twoLevel: boolean;
  /** Bits of StreamID that the table resolves. */
  readonly #bits: number;
  /** Level-2 tables by their index in the first level. */
  readonly #leaves = new Map<number, number>();

  /** @throws IommuError ENOMEM */
  constructor(
    private readonly context: DriverContext,
    features: Smmuv3Features,
  ) {
    this.#twoLevel = features.twoLevelStreamTable;
    const { sidBits } = features;
    this.#bits = this.#twoLevel ? Math.min(sidBits, MAX_FIRST_LEVEL_BITS + STREAM_TABLE_SPLIT) : sidBits;
    const bytes = this.#twoLevel ? L1STD.bytes * 2 ** (this.#bits - STREAM_TABLE_SPLIT) : STE.bytes * 2 ** this.#bits;
    this.#base = context.alloc(bytes, "stream table");
    if (!this.#twoLevel) this.#initialise(this.#base, 2 ** this.#bits);
  }

  /** While the SMMU is disabled. */
  install(): void {
    writeRegister(this.context.mmio, STRTAB_BASE, { ADDR: this.#base, RA: true });
    writeRegister(this.context.mmio, STRTAB_BASE_CFG, {
      LOG2SIZE: this.#bits,
      SPLIT: this.#twoLevel ? STREAM_TABLE_SPLIT : 0,
      FMT: this.#twoLevel ? "twoLevel" : "linear",
    });
  }

  /**
   * Physical address of a stream's STE.
   * @throws IommuError ERANGE a StreamID that the SMMU does not have; ENOMEM
   */
  ste(sid: number): number {
    if (sid >= 2 ** this.#bits) {
      throw new IommuError("ERANGE", `${this.context.name}: StreamID ${hex(sid)} needs more than ${this.#bits} bits`);
    }
    if (!this.#twoLevel) return this.#base + STE.bytes * sid;
    const slot = sid >>> STREAM_TABLE_SPLIT;
    const leaf = this.#leaves.get(slot) ?? this.#addLeaf(slot);
    return leaf + STE.bytes * (sid & (2 ** STREAM_TABLE_SPLIT - 1));
  }

  #addLeaf(slot: number): number {
    const { context } = this;
    const leaf = context.alloc(STE.bytes * 2 ** STREAM_TABLE_SPLIT, "stream table, level 2");
    this.#initialise(leaf, 2 ** STREAM_TABLE_SPLIT);
    this.#leaves.set(slot, leaf);
    const [lo, hi] = L1STD.encode({ Span: STREAM_TABLE_SPLIT + 1, L2Ptr: leaf });
    context.memory.store64(this.#base + L1STD.bytes * slot, hi, lo);
    return leaf;
  }

  #initialise(table: number, entries: number): void {
    for (let entry = 0; entry < entries; entry++)
      this.context.memory.store64(table + STE.bytes * entry, ABORT[1], ABORT[0]);
  }

  free(): void {
    for (const leaf of this.#leaves.values()) this.context.pages.free(leaf);
    this.context.pages.free(this.#base);
  }
}
