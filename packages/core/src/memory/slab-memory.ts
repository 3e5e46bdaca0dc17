/**
 * Simulated RAM in buffers that are allocated when first touched, and written to only here: one for a single region of up
 * to 4 GiB, otherwise a one-level array of 1 GiB slabs, whose `view` takes longer.
 */
import { hiOf, loOf, physical } from "./address.js";
import { checkRegions, joined, type Range } from "./memory-regions.js";
import { type MemoryRegion, type MemoryWindow, type PhysicalMemory, WINDOW_MASK } from "./physical-memory.js";

const SLAB_SHIFT = 30;
const SLAB_SIZE = 2 ** SLAB_SHIFT;
const SLAB_MASK = SLAB_SIZE - 1;
/** The largest region that one buffer holds. */
const WHOLE_SIZE = 2 ** 32;

/** The memory of a platform: all of its regions, zero until written. */
export class SlabMemory implements PhysicalMemory {
  viewAt = 0;
  readonly #ranges: readonly Range[];
  /** Where the first slab starts, and how large slabs are. */
  readonly #origin: number;
  readonly #slabSize: number;
  /** Bytes of RAM that each slab may hold, from its start. */
  readonly #limits: number[] = [];
  /** Of each slab, whether part of it below its limit is no RAM. */
  readonly #sparse: boolean[] = [];
  readonly #slabs: (Int32Array | undefined)[] = [];
  readonly #bytes: (Uint8Array | undefined)[] = [];
  /**
   * The one buffer of a single region, its place, and its words: none before the first touch. Integers from the start: what
   * has been undefined once is no integer for the compiler.
   */
  #whole: Int32Array = new Int32Array(0);
  readonly #wholeHi: number = 0;
  readonly #wholeAt: number = 0;
  #wholeEnd = 0;
  readonly #windows: MemoryWindow[] = [];
  /** Nothing has been written from here up: it is zero, and the host has no memory for it yet. */
  #untouched = 0;

  /** @throws IommuError EINVAL regions that are not whole pages, that overlap, or that 52 bits do not address */
  constructor(readonly regions: readonly MemoryRegion[]) {
    checkRegions(regions);
    this.#ranges = joined(regions);
    const whole = regions.length === 1 && regions[0].size <= WHOLE_SIZE;
    this.#origin = whole ? regions[0].base : 0;
    this.#slabSize = whole ? WHOLE_SIZE : SLAB_SIZE;
    this.#wholeHi = hiOf(this.#origin);
    this.#wholeAt = loOf(this.#origin) >>> 2;
    const covered: number[] = [];
    for (const { base, size } of regions) {
      const end = base + size - this.#origin;
      for (let slab = this.#indexOf(base); slab * this.#slabSize < end; slab++) {
        const limit = Math.min(this.#slabSize, end - slab * this.#slabSize);
        const from = Math.max(0, base - this.#origin - slab * this.#slabSize);
        this.#limits[slab] = Math.max(this.#limits[slab] ?? 0, limit);
        covered[slab] = (covered[slab] ?? 0) + limit - from;
        this.#sparse[slab] = covered[slab] < this.#limits[slab];
      }
    }
  }

  view(hi: number, lo: number, words: number): Int32Array | null {
    const high = hi - this.#wholeHi;
    const at = (((high << 30) | (lo >>> 2)) - this.#wholeAt) | 0;
    if ((high & ~1) === 0 && at >= 0 && at <= this.#wholeEnd - words) {
      this.viewAt = at;
      return this.#whole;
    }
    return this.#viewSlab(hi, lo, words);
  }

  #viewSlab(hi: number, lo: number, words: number): Int32Array | null {
    if (this.#slabSize === WHOLE_SIZE) {
      // Outside of the only buffer, or the first touch.
      const inside = this.#wholeEnd === 0 && this.has(physical(hi, lo), words * 4);
      if (!inside || this.#slab(0) === null) return null;
      return this.view(hi, lo, words);
    }
    const index = (hi << 2) | (lo >>> SLAB_SHIFT);
    const slab = this.#slab(index);
    if (slab === null || hi >>> 20 !== 0) return null;
    if (this.#sparse[index] && !this.has(physical(hi, lo), words * 4)) return null;
    const at = (lo & SLAB_MASK) >>> 2;
    if (at + words > slab.length) return null;
    this.viewAt = at;
    return slab;
  }

  window(hi: number, lo: number): MemoryWindow | null {
    const words = this.view(hi, lo, 1);
    // Next to what is no RAM each fetch has to be asked for.
    if (words === null || this.#sparse[this.#indexOf(physical(hi, lo))]) return null;
    const first = (lo >>> 2) - this.viewAt;
    const known = this.#windows.find((window) => window.hi === hi && window.first === Math.max(first, 0));
    return known ?? this.#addWindow(words, hi, first);
  }

  /** What of a buffer lies below the high word, when its first word would be at `first`. */
  #addWindow(words: Int32Array, hi: number, first: number): MemoryWindow {
    const from = Math.max(-first, 0);
    const window = { words: words.subarray(from, WINDOW_MASK + 1 - first), hi, first: first + from };
    this.#windows.push(window);
    return window;
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
    if (this.#slabSize === WHOLE_SIZE) {
      this.#whole = slab;
      this.#wholeEnd = slab.length;
    }
    return slab;
  }

  #indexOf(pa: number): number {
    return Math.floor((pa - this.#origin) / this.#slabSize);
  }

  #offsetOf(pa: number): number {
    return (pa - this.#origin) % this.#slabSize;
  }

  store64(pa: number, hi: number, lo: number): boolean {
    const slab = this.view(hiOf(pa), loOf(pa), 2);
    if (slab === null) return false;
    slab[this.viewAt] = lo;
    slab[this.viewAt + 1] = hi;
    if (pa >= this.#untouched) this.#untouched = pa + 8;
    return true;
  }

  store32(pa: number, value: number): boolean {
    const slab = this.view(hiOf(pa), loOf(pa), 1);
    if (slab === null) return false;
    slab[this.viewAt] = value;
    if (pa >= this.#untouched) this.#untouched = pa + 4;
    return true;
  }

  compareExchange64(pa: number, expectedHi: number, expectedLo: number, hi: number, lo: number): boolean {
    const slab = this.view(hiOf(pa), loOf(pa), 2);
    if (slab === null || slab[this.viewAt] !== (expectedLo | 0) || slab[this.viewAt + 1] !== (expectedHi | 0))
      return false;
    return this.store64(pa, hi, lo);
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
      copy(ram, this.#offsetOf(pa), into, 0, into.length);
      return true;
    }
    return this.#spans(pa, into.length, (bytes, from, done, length) =>
      into.set(bytes.subarray(from, from + length), done),
    );
  }

  writeBytes(pa: number, bytes: Uint8Array): boolean {
    const ram = this.#within(pa, bytes.length);
    if (ram === null && !this.has(pa, bytes.length)) return false;
    this.#untouched = Math.max(this.#untouched, pa + bytes.length);
    if (ram !== null) {
      copy(bytes, 0, ram, this.#offsetOf(pa), bytes.length);
      return true;
    }
    return this.#spans(pa, bytes.length, (to, from, done, length) => to.set(bytes.subarray(done, done + length), from));
  }

  /** The slab that holds all of the range; null when there is none, or more than one. */
  #within(pa: number, length: number): Uint8Array | null {
    if (!this.has(pa, length) || this.#offsetOf(pa) + length > this.#slabSize) return null;
    const index = this.#indexOf(pa);
    return this.#slab(index) === null ? null : (this.#bytes[index] as Uint8Array);
  }

  fill(pa: number, length: number, byte: number): boolean {
    // Fresh memory is zero: a program that never uses all of its tables and queues does not pay for them.
    const count = byte === 0 ? Math.min(length, Math.max(0, this.#untouched - pa)) : length;
    if (!this.has(pa, length)) return false;
    if (count === 0) return true;
    if (byte !== 0) this.#untouched = Math.max(this.#untouched, pa + length);
    const whole = (pa | count) % 4 === 0;
    const word = byte | (byte << 8) | (byte << 16) | (byte << 24);
    return this.#spans(pa, count, (ram, from, _done, part, words) => {
      if (whole) words.fill(word, from / 4, (from + part) / 4);
      else ram.fill(byte, from, from + part);
    });
  }

  has(pa: number, length: number): boolean {
    for (const { base, end } of this.#ranges) if (pa >= base && pa + length <= end) return true;
    return false;
  }

  /** Calls back once per slab that the range touches; false, with nothing done, when part of it is not RAM. */
  #spans(
    pa: number,
    length: number,
    each: (bytes: Uint8Array, from: number, done: number, length: number, words: Int32Array) => void,
  ): boolean {
    if (!this.has(pa, length)) return false;
    for (let done = 0; done < length; ) {
      const index = this.#indexOf(pa + done);
      const from = this.#offsetOf(pa + done);
      const count = Math.min(length - done, this.#slabSize - from);
      const words = this.#slab(index);
      if (words === null) return false;
      each(this.#bytes[index] as Uint8Array, from, done, count, words);
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
