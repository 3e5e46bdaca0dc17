/**
 * A set-associative cache of slots under a tag of four int32 words, replaced round robin. What a slot holds is the owner's:
 * arrays beside it, indexed by the slot.
 */
export class TagCache {
  /** 0: there is no cache, and nothing is ever found. */
  readonly capacity: number;
  /** Length of the owner's arrays: a cache without capacity has one slot, to work in, that is never valid. */
  readonly slots: number;
  /** Number of valid slots. */
  size = 0;
  readonly a: Int32Array;
  readonly b: Int32Array;
  readonly c: Int32Array;
  readonly d: Int32Array;
  readonly valid: Uint8Array;
  readonly #ways: number;
  readonly #setMask: number;
  readonly #victim: Uint8Array;

  /** @param capacity 0, or a power of two that is at least `ways` */
  constructor(capacity: number, ways = 4) {
    this.capacity = capacity;
    this.slots = Math.max(capacity, 1);
    this.#ways = ways;
    this.#setMask = capacity / ways - 1;
    this.a = new Int32Array(this.slots);
    this.b = new Int32Array(this.slots);
    this.c = new Int32Array(this.slots);
    this.d = new Int32Array(this.slots);
    this.valid = new Uint8Array(this.slots);
    this.#victim = new Uint8Array(this.slots);
  }

  /** First slot of the tag's set. Neighbouring pages lie in neighbouring sets. */
  #first(a: number, b: number, c: number, d: number): number {
    const mixed = Math.imul(a ^ Math.imul(b, 0x85eb_ca6b) ^ Math.imul(c, 0xc2b2_ae35), 0x9e37_79b1);
    const page = (d >>> 12) ^ (d >>> 21);
    return (((mixed >>> 15) ^ mixed ^ page) & this.#setMask) * this.#ways;
  }

  /** Slot with that tag; -1 when there is none. */
  find(a: number, b: number, c: number, d: number): number {
    if (this.size === 0) return -1;
    const first = this.#first(a, b, c, d);
    const end = first + this.#ways;
    for (let slot = first; slot < end; slot++) {
      if (
        this.d[slot] === d &&
        this.a[slot] === a &&
        this.c[slot] === c &&
        this.b[slot] === b &&
        this.valid[slot] === 1
      )
        return slot;
    }
    return -1;
  }

  /** A slot under that tag, valid where there is a cache: the one that has it, a free one, or another's. */
  claim(a: number, b: number, c: number, d: number): number {
    if (this.capacity === 0) return 0;
    let slot = this.find(a, b, c, d);
    if (slot >= 0) return slot;
    slot = this.#vacate(this.#first(a, b, c, d));
    this.valid[slot] = 1;
    this.size++;
    this.a[slot] = a;
    this.b[slot] = b;
    this.c[slot] = c;
    this.d[slot] = d;
    return slot;
  }

  /** A slot of the set that is free, or that now is. */
  #vacate(first: number): number {
    const end = first + this.#ways;
    for (let slot = first; slot < end; slot++) if (this.valid[slot] === 0) return slot;
    const next = this.#victim[first];
    this.#victim[first] = next + 1 === this.#ways ? 0 : next + 1;
    this.size--;
    return first + next;
  }

  drop(slot: number): void {
    if (this.valid[slot] === 0) return;
    this.valid[slot] = 0;
    this.size--;
  }

  /** @returns how many slots were valid */
  clear(): number {
    const had = this.size;
    this.valid.fill(0);
    this.size = 0;
    return had;
  }
}

/** Whether two naturally aligned ranges meet: `shift` is the log2 of the larger one. */
export function meets(hiA: number, loA: number, hiB: number, loB: number, shift: number): boolean {
  if (shift >= 64) return true;
  if (shift >= 32) return (hiA ^ hiB) >>> (shift - 32) === 0;
  return hiA === hiB && (loA ^ loB) >>> shift === 0;
}

/** Low word of an address with its lowest `shift` bits cleared. */
export function alignLo(lo: number, shift: number): number {
  return shift >= 32 ? 0 : lo & (-1 << shift);
}

/** High word of an address with its lowest `shift` bits cleared. */
export function alignHi(hi: number, shift: number): number {
  if (shift <= 32) return hi;
  return shift >= 64 ? 0 : hi & (-1 << (shift - 32));
}
