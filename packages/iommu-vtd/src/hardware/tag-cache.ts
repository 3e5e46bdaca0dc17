/** What every cache of the unit is built on. */
const TAG_WORDS = 4;
/** Words of the owner's beside the tag of each slot. */
const OWN_WORDS = 4;
const SLOT_WORDS = TAG_WORDS + OWN_WORDS;
const SLOT_SHIFT = 3;
const WAYS = 4;
const WAY_SHIFT = 2;
const FREE = -1;
/** Set and mark of a tag in one word that is not negative. */
const MARK_SHIFT = 23;
const { clz32, imul } = Math;
const NOTHING = new Int32Array(0);

/** Index in `words` of the owner's words of a slot: `| n` is the n-th of them. */
export function ownOf(slot: number): number {
  return (slot << SLOT_SHIFT) | TAG_WORDS;
}

/** Is told whenever a slot gets or loses its tag: what was found before may not hold any more. */
export interface TagWatcher {
  forget(): void;
}

/**
 * A set-associative cache of slots under a tag of four int32 words, replaced round robin. Four more words of a slot are the
 * owner's, in the same cache line; whatever else belongs to a slot stands in arrays of the owner. The memory comes with the
 * first entry. `private`, not `#`: its byte code is shorter, and the compiler inlines only so much of it.
 */
export class TagCache {
  /** 0: there is no cache, and nothing is ever found. */
  readonly capacity: number;
  /** Length of the owner's arrays: a cache without capacity has one slot, to work in, that is never valid. */
  readonly slots: number;
  /** Number of valid slots. */
  size = 0;
  /** Of slot n from word 8n on: the tag, whose first word is FREE in a free slot, and the owner's words. */
  words: Int32Array = NOTHING;
  /** Of each slot a byte of its tag's hash, which says for most tags that they are others; 0 when it is free. */
  private readonly marks: Uint8Array;
  /** The same, those of a set in a word: the first way's in its lowest byte. */
  private readonly setMarks: Int32Array;
  private readonly setMask: number;
  private readonly hashShift: number;
  private victim = new Uint8Array(0);

  /** @param capacity 0, or a power of two from 4 up */
  constructor(
    capacity: number,
    private readonly watcher?: TagWatcher,
  ) {
    this.capacity = capacity;
    this.slots = Math.max(capacity, 1);
    const sets = Math.max(capacity / WAYS, 1);
    this.marks = new Uint8Array(sets * WAYS);
    this.setMarks = new Int32Array(this.marks.buffer);
    this.setMask = sets - 1;
    this.hashShift = clz32(this.setMask);
  }

  private allocate(): void {
    this.words = new Int32Array(this.slots * SLOT_WORDS).fill(FREE);
    this.victim = new Uint8Array(this.slots);
  }

  /** Tags of a slot; what they are in a free slot does not matter to anybody. */
  a(slot: number): number {
    return this.words[slot << SLOT_SHIFT];
  }

  b(slot: number): number {
    return this.words[(slot << SLOT_SHIFT) | 1];
  }

  c(slot: number): number {
    return this.words[(slot << SLOT_SHIFT) | 2];
  }

  d(slot: number): number {
    return this.words[(slot << SLOT_SHIFT) | 3];
  }

  /** Slot with that tag, whose first word is not negative. When there is none: ~ of where `place` puts it. */
  find(a: number, b: number, c: number, d: number): number {
    if (this.capacity === 0) return -1;
    const page = (d >>> 12) ^ (c << 20);
    const owner = imul(a ^ (b << 8), 0x9e37_79b1);
    // The topmost bits of the product: the others are the same for requesters or PASIDs that lie a power of two apart.
    const set = (page ^ (page >>> 9) ^ (owner >>> this.hashShift)) & this.setMask;
    const mark = (imul(owner ^ page, 0x9e37_79b1) >>> 24) | 1;
    const { words } = this;
    for (let ways = zeroBytes(this.setMarks[set] ^ imul(mark, 0x0101_0101)); ways !== 0; ways &= ways - 1) {
      const slot = (set << WAY_SHIFT) | lowest(ways);
      const at = slot << SLOT_SHIFT;
      if (words[at | 3] === d && words[at] === a && words[at | 1] === b && words[at | 2] === c) return slot;
    }
    return ~(set | (mark << MARK_SHIFT));
  }

  /** A slot under that tag, valid where there is a cache: the one that has it, a free one, or another's. */
  claim(a: number, b: number, c: number, d: number): number {
    const slot = this.find(a, b, c, d);
    return slot >= 0 ? slot : this.place(~slot, a, b, c, d);
  }

  /** The same for a tag that no slot has. @param where ~ of what `find` has answered */
  place(where: number, a: number, b: number, c: number, d: number): number {
    if (this.words === NOTHING) this.allocate();
    if (this.capacity === 0) return 0;
    const slot = this.free(where & this.setMask);
    this.marks[slot] = where >>> MARK_SHIFT;
    const { words } = this;
    const at = slot << SLOT_SHIFT;
    words[at] = a;
    words[at | 1] = b;
    words[at | 2] = c;
    words[at | 3] = d;
    this.watcher?.forget();
    return slot;
  }

  /** A free slot of the set, or else the next one. */
  private free(set: number): number {
    const first = set << WAY_SHIFT;
    const ways = zeroBytes(this.setMarks[set]);
    if (ways !== 0) {
      this.size++;
      return first | lowest(ways);
    }
    const way = this.victim[set];
    this.victim[set] = (way + 1) & (WAYS - 1);
    return first | way;
  }

  drop(slot: number): void {
    if (this.size === 0 || this.a(slot) === FREE) return;
    this.words[slot << SLOT_SHIFT] = FREE;
    this.marks[slot] = 0;
    this.watcher?.forget();
    this.size--;
  }

  /** @returns how many slots were valid */
  clear(): number {
    const had = this.size;
    if (had > 0) {
      this.words.fill(FREE);
      this.marks.fill(0);
    }
    this.watcher?.forget();
    this.size = 0;
    return had;
  }
}

/** The topmost bit of each byte that is 0; above the lowest such byte also of some that are 1. */
function zeroBytes(word: number): number {
  return (word - 0x0101_0101) & ~word & 0x8080_8080;
}

/** The lowest byte of `zeroBytes`. */
function lowest(bytes: number): number {
  return (31 - clz32(bytes & -bytes)) >> 3;
}
