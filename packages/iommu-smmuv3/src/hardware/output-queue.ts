/** A queue that the chip writes and software reads: indexes with wrap bits, overflow flags. IHI 0070 3.5.1, 7.4, 8.1. */
import { physical, type RegisterFile } from "@iommukit/core";
import type { EVENTQ_BASE, EVENTQ_CONS, EVENTQ_PROD } from "../spec/registers.js";
import { lowMaskFrom } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";

export class OutputQueue {
  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
    private readonly base: typeof EVENTQ_BASE,
    private readonly prod: typeof EVENTQ_PROD,
    private readonly cons: typeof EVENTQ_CONS,
    /** Words of an entry. */
    private readonly entry: number,
    private readonly maxLog2: number,
  ) {}

  get #size(): number {
    return Math.min(this.base.LOG2SIZE.get(this.registers.words, this.base.index), this.maxLog2);
  }

  /** Where the two indexes, wrap bits included, differ. */
  get #difference(): number {
    const { words } = this.registers;
    const { prod, cons } = this;
    return (prod.WR.get(words, prod.index) ^ cons.RD.get(words, cons.index)) & ((2 << this.#size) - 1);
  }

  get empty(): boolean {
    return this.#difference === 0;
  }

  get full(): boolean {
    return this.#difference === 1 << this.#size;
  }

  /** An overflow that software has not acknowledged. */
  get overflowed(): boolean {
    const { words } = this.registers;
    const { prod, cons } = this;
    return prod.OVFLG.get(words, prod.index) !== cons.OVACKFLG.get(words, cons.index);
  }

  overflow(): void {
    if (!this.overflowed) this.registers.words[this.prod.index] ^= this.prod.OVFLG.lowMask;
  }

  /** Address of the entry at the producer's index. */
  #address(): number {
    const { words } = this.registers;
    const size = this.#size;
    const align = Math.max(5, size + Math.log2(this.entry * 4));
    const base = physical(
      this.base.ADDR.hi(words, this.base.index),
      this.base.ADDR.lo(words, this.base.index) & lowMaskFrom(align),
    );
    const index = this.registers.get(this.prod) & ((1 << size) - 1);
    return (base + index * this.entry * 4) % this.chip.features.oasSize;
  }

  /** Writes one entry and moves the index; false when the write aborts. Not to be called while full. */
  write(record: Int32Array): boolean {
    const at = this.#address();
    const { memory } = this.chip.ports;
    for (let word = 0; word < this.entry; word += 2) {
      if (!memory.store64(at + word * 4, record[word + 1], record[word])) return false;
    }
    const size = this.#size;
    const { words } = this.registers;
    const next = (words[this.prod.index] + 1) & ((2 << size) - 1);
    words[this.prod.index] = (words[this.prod.index] & this.prod.OVFLG.lowMask) | next;
    return true;
  }
}
