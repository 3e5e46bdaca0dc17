/**
 * Ring arithmetic that all queues share (IHI 0070 3.5.1): a register holds an index, a wrap bit above it, and an overflow flag in
 * bit 31. Software counts entries since the reset instead, which never wraps, and takes the register's value from that.
 */
import type { DriverContext } from "./driver-context.js";

export class Ring {
  readonly entries: number;

  /** @param shift log2 of the entries */
  constructor(readonly shift: number) {
    this.entries = 2 ** shift;
  }

  /** Slot of the entry with that number. */
  index(count: number): number {
    return count % this.entries;
  }

  /** What a PROD or CONS register holds at that number: index and wrap bit. */
  pointer(count: number): number {
    return count % (2 * this.entries);
  }

  /** The number that a register's value stands for, at most one round of the queue after `since`. */
  count(register: number, since: number): number {
    const pointer = register & (2 * this.entries - 1);
    return since + ((pointer - this.pointer(since)) & (2 * this.entries - 1));
  }
}

/** A queue's memory: 2^shift entries of `words` 32-bit words, aligned to its size. */
export class QueueMemory {
  readonly base: number;
  readonly ring: Ring;

  /** @throws IommuError ENOMEM */
  constructor(
    private readonly context: DriverContext,
    readonly name: string,
    readonly shift: number,
    readonly words: number,
  ) {
    this.ring = new Ring(shift);
    this.base = context.alloc(4 * words * 2 ** shift, name);
    context.print(`allocated ${2 ** shift} entries for ${name}`);
  }

  at(count: number): number {
    return this.base + 4 * this.words * this.ring.index(count);
  }

  read(count: number): Int32Array {
    const at = this.at(count);
    return Int32Array.from({ length: this.words }, (_, word) => this.context.memory.load32(at + 4 * word));
  }

  write(count: number, entry: Int32Array): void {
    const at = this.at(count);
    for (let word = 0; word < this.words; word += 2)
      this.context.memory.store64(at + 4 * word, entry[word + 1], entry[word]);
  }

  free(): void {
    this.context.pages.free(this.base);
  }
}

/** An entry's doublewords as the kernel prints them. */
export function printDoublewords(context: DriverContext, entry: Int32Array): void {
  const hex = (word: number) => (word >>> 0).toString(16).padStart(8, "0");
  for (let word = 0; word < entry.length; word += 2) context.print(`\t0x${hex(entry[word + 1])}${hex(entry[word])}`);
}
