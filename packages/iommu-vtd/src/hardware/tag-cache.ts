/** What every cache of the unit is built on. */
const TAG_WORDS = 4;
const FREE = -1;

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
  /** Grows whenever a slot gets or loses its tag: what was found before holds while it stays. */
  changes = 0;
  /** Tags of slot n from word 4n on; a free slot has FREE as its first. */
  readonly #tags: Int32Array;
  readonly #ways: number;
  readonly #setMask: number;
  readonly #victim: Uint8Array;

  /** @param capacity 0, or a power of two that is at least `ways` */
  constructor(capacity: number, ways = 4) {
    this.capacity = capacity;
    this.slots = Math.max(capacity, 1);
    this.#ways = ways;
    this.#setMask = capacity / ways - 1;
    this.#tags = new Int32Array(this.slots * TAG_WORDS).fill(FREE);
    this.#victim = new Uint8Array(this.slots);
  }

  /** Tags of a slot; what they are in a free slot does not matter to anybody. */
  a(slot: number): number {
    return this.#tags[slot * TAG_WORDS];
  }

  b(slot: number): number {
    return this.#tags[slot * TAG_WORDS + 1];
  }

  c(slot: number): number {
    return this.#tags[slot * TAG_WORDS + 2];
  }

  d(slot: number): number {
    return this.#tags[slot * TAG_WORDS + 3];
  }

  #set(a: number, b: number, c: number, d: number): number {
    const page = (d >>> 12) ^ (c << 20);
    return (page ^ (page >>> 9) ^ Math.imul(a ^ (b << 8), 0x9e37_79b1)) & this.#setMask;
  }

  /** Slot with that tag, whose first word is not negative; -1 when there is none. */
  find(a: number, b: number, c: number, d: number): number {
    if (this.size === 0) return -1;
    const tags = this.#tags;
    let slot = this.#set(a, b, c, d) * this.#ways;
    const end = slot + this.#ways;
    for (let at = slot * TAG_WORDS; slot < end; slot++, at += TAG_WORDS) {
      if (tags[at + 3] === d && tags[at] === a && tags[at + 1] === b && tags[at + 2] === c) return slot;
    }
    return -1;
  }

  /** A slot under that tag, valid where there is a cache: the one that has it, a free one, or another's. */
  claim(a: number, b: number, c: number, d: number): number {
    if (this.capacity === 0) return 0;
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
    this.changes++;
    const at = slot * TAG_WORDS;
    this.#tags[at] = a;
    this.#tags[at + 1] = b;
    this.#tags[at + 2] = c;
    this.#tags[at + 3] = d;
    return slot;
  }

  #free(first: number): number {
    for (let slot = first; slot < first + this.#ways; slot++) if (this.a(slot) === FREE) return slot;
    return -1;
  }

  drop(slot: number): void {
    if (this.a(slot) === FREE) return;
    this.#tags[slot * TAG_WORDS] = FREE;
    this.changes++;
    this.size--;
  }

  /** @returns how many slots were valid */
  clear(): number {
    const had = this.size;
    if (had > 0) this.#tags.fill(FREE);
    this.changes++;
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
