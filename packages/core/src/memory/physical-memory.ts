/**
 * Simulated RAM: one-level array of 1 GiB slabs that are allocated when first touched. Hardware reads table entries
 * in place through `view`; a versioned memory (for exploring interleavings) answers the same call from a scratch copy.
 */
import { token } from "../platform/token.js";
import { hiOf, loOf } from "./address.js";

export interface MemoryRegion {
  /** First byte; a multiple of 4 KiB. */
  readonly base: number;
  readonly size: number;
}

export interface PhysicalMemory {
  readonly regions: readonly MemoryRegion[];
  /**
   * The words of one table entry as a hardware fetch sees them; the first is at index `viewAt` of the answer.
   * Null where no memory is: an external abort. Valid until the next call. `hi`/`lo` is a multiple of 4.
   */
  view(hi: number, lo: number, words: number): Int32Array | null;
  viewAt: number;
  /** One aligned 8-byte store, as a CPU or a hardware unit does it. False where no memory is. */
  store64(pa: number, hi: number, lo: number): boolean;
  store32(pa: number, value: number): boolean;
  /** Atomic 8-byte read-modify-write (AF, dirty and A/D updates). True when the old value was the expected one. */
  compareExchange64(pa: number, expectedHi: number, expectedLo: number, hi: number, lo: number): boolean;
  /** Reads for software and tests; all ones where no memory is. */
  load32(pa: number): number;
  load64(pa: number): bigint;
  readBytes(pa: number, into: Uint8Array): boolean;
  writeBytes(pa: number, bytes: Uint8Array): boolean;
  fill(pa: number, length: number, byte: number): boolean;
  has(pa: number, length: number): boolean;
}
export const PhysicalMemory = token<PhysicalMemory>("PhysicalMemory");

const SLAB_SHIFT = 30;
const SLAB_SIZE = 2 ** SLAB_SHIFT;
const SLAB_MASK = SLAB_SIZE - 1;

export class SlabMemory implements PhysicalMemory {
  viewAt = 0;
  /** Bytes of RAM that each slab may hold, from its start. */
  readonly #limits: number[] = [];
  readonly #slabs: (Int32Array | undefined)[] = [];
  readonly #bytes: (Uint8Array | undefined)[] = [];

  constructor(readonly regions: readonly MemoryRegion[]) {
    for (const { base, size } of regions) {
      if (base % 4096 !== 0 || size % 4096 !== 0 || size <= 0)
        throw new RangeError(`RAM 0x${base.toString(16)}+0x${size.toString(16)} is not whole pages`);
      for (let slab = Math.floor(base / SLAB_SIZE); slab * SLAB_SIZE < base + size; slab++) {
        this.#limits[slab] = Math.max(this.#limits[slab] ?? 0, Math.min(SLAB_SIZE, base + size - slab * SLAB_SIZE));
      }
    }
  }

  view(hi: number, lo: number, words: number): Int32Array | null {
    const slab = this.#slab((hi << 2) | (lo >>> SLAB_SHIFT));
    if (slab === null || hi >>> 20 !== 0) return null;
    const at = (lo & SLAB_MASK) >>> 2;
    if (at + words > slab.length) return null;
    this.viewAt = at;
    return slab;
  }

  #slab(index: number): Int32Array | null {
    return this.#slabs[index] ?? this.#allocate(index);
  }

  #allocate(index: number): Int32Array | null {
    const limit = this.#limits[index];
    if (limit === undefined) return null;
    // Shared buffers do not count against the garbage collector, which otherwise runs for each slab. Web pages that are
    // not isolated have none.
    const buffer = typeof SharedArrayBuffer === "undefined" ? new ArrayBuffer(limit) : new SharedArrayBuffer(limit);
    this.#bytes[index] = new Uint8Array(buffer);
    const slab = new Int32Array(buffer);
    this.#slabs[index] = slab;
    return slab;
  }

  store64(pa: number, hi: number, lo: number): boolean {
    const slab = this.view(hiOf(pa), loOf(pa), 2);
    if (slab === null) return false;
    slab[this.viewAt] = lo;
    slab[this.viewAt + 1] = hi;
    return true;
  }

  store32(pa: number, value: number): boolean {
    const slab = this.view(hiOf(pa), loOf(pa), 1);
    if (slab === null) return false;
    slab[this.viewAt] = value;
    return true;
  }

  compareExchange64(pa: number, expectedHi: number, expectedLo: number, hi: number, lo: number): boolean {
    const slab = this.view(hiOf(pa), loOf(pa), 2);
    if (slab === null || slab[this.viewAt] !== (expectedLo | 0) || slab[this.viewAt + 1] !== (expectedHi | 0))
      return false;
    slab[this.viewAt] = lo;
    slab[this.viewAt + 1] = hi;
    return true;
  }

  load32(pa: number): number {
    const slab = this.view(hiOf(pa), loOf(pa), 1);
    return slab === null ? 0xffff_ffff : slab[this.viewAt] >>> 0;
  }

  load64(pa: number): bigint {
    return (BigInt(this.load32(pa + 4)) << 32n) | BigInt(this.load32(pa));
  }

  readBytes(pa: number, into: Uint8Array): boolean {
    const ram = this.#within(pa, into.length);
    if (ram !== null) {
      copy(ram, pa % SLAB_SIZE, into, 0, into.length);
      return true;
    }
    return this.#spans(pa, into.length, (bytes, from, done, length) =>
      into.set(bytes.subarray(from, from + length), done),
    );
  }

  writeBytes(pa: number, bytes: Uint8Array): boolean {
    const ram = this.#within(pa, bytes.length);
    if (ram !== null) {
      copy(bytes, 0, ram, pa % SLAB_SIZE, bytes.length);
      return true;
    }
    return this.#spans(pa, bytes.length, (to, from, done, length) => to.set(bytes.subarray(done, done + length), from));
  }

  /** The slab that holds all of the range; null when there is none, or more than one. */
  #within(pa: number, length: number): Uint8Array | null {
    if (!this.has(pa, length) || (pa % SLAB_SIZE) + length > SLAB_SIZE) return null;
    const index = Math.floor(pa / SLAB_SIZE);
    return this.#slab(index) === null ? null : (this.#bytes[index] as Uint8Array);
  }

  fill(pa: number, length: number, byte: number): boolean {
    return this.#spans(pa, length, (ram, from, _done, count) => ram.fill(byte, from, from + count));
  }

  has(pa: number, length: number): boolean {
    for (const { base, size } of this.regions) if (pa >= base && pa + length <= base + size) return true;
    return false;
  }

  /** Calls back once per slab that the range touches; false, with nothing done, when part of it is not RAM. */
  #spans(
    pa: number,
    length: number,
    each: (bytes: Uint8Array, from: number, done: number, length: number) => void,
  ): boolean {
    if (!this.has(pa, length)) return false;
    for (let done = 0; done < length; ) {
      const index = Math.floor((pa + done) / SLAB_SIZE);
      const from = (pa + done) % SLAB_SIZE;
      const count = Math.min(length - done, SLAB_SIZE - from);
      if (this.#slab(index) === null) return false;
      each(this.#bytes[index] as Uint8Array, from, done, count);
      done += count;
    }
    return true;
  }
}

/** Up to here a loop is faster than making a view and copying it. */
const SHORT = 32;

function copy(from: Uint8Array, at: number, to: Uint8Array, into: number, length: number): void {
  if (length > SHORT) to.set(from.subarray(at, at + length), into);
  else for (let n = 0; n < length; n++) to[into + n] = from[at + n];
}
