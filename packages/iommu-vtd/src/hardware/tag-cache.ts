/**
 * A set-associative cache of slots under a tag of four int32 words, replaced round robin. What a slot holds is the owner's:
 * arrays beside it, indexed by the slot.
 */
export class TagCache {
  readonly capacity: number;
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

  /** @param capacity a power of two, at least `ways` */
  constructor(capacity: number, ways = 4) {
    this.capacity = capacity;
    this.#ways = ways;
    this.#setMask = capacity / ways - 1;
    this.a = new Int32Array(capacity);
    this.b = new Int32Array(capacity);
    this.c = new Int32Array(capacity);
    this.d = new Int32Array(capacity);
    this.valid = new Uint8Array(capacity);
    this.#victim = new Uint8Array(capacity / ways);
  }

  #set(a: number, b: number, c: number, d: number): number {
    const mixed = Math.imul(a ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35) ^ (d >>> 12), 0x9e3779b1);
    return ((mixed >>> 15) ^ mixed) & this.#setMask;
  }

  /** Slot with that tag; -1 when there is none. */
  find(a: number, b: number, c: number, d: number): number {
    const first = this.#set(a, b, c, d) * this.#ways;
    for (let slot = first; slot < first + this.#ways; slot++) {
      if (
        this.valid[slot] === 1 &&
        this.d[slot] === d &&
        this.a[slot] === a &&
        this.c[slot] === c &&
        this.b[slot] === b
      )
        return slot;
    }
    return -1;
  }

  /** A valid slot under that tag: the one that has it, a free one, or another's. */
  claim(a: number, b: number, c: number, d: number): number {
    let slot = this.find(a, b, c, d);
    if (slot >= 0) return slot;
    const set = this.#set(a, b, c, d);
    slot = this.#free(set * this.#ways);
    if (slot < 0) {
      slot = set * this.#ways + this.#victim[set];
      this.#victim[set] = (this.#victim[set] + 1) % this.#ways;
    } else {
      this.size++;
    }
    this.valid[slot] = 1;
    this.a[slot] = a;
    this.b[slot] = b;
    this.c[slot] = c;
    this.d[slot] = d;
    return slot;
  }

  #free(first: number): number {
    for (let slot = first; slot < first + this.#ways; slot++) if (this.valid[slot] === 0) return slot;
    return -1;
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
