/**
 * Address Translation Cache of one function (PCIe 10.1.1, 10.2, 10.3): set-associative, tagged by PASID, privilege and
 * virtual address, entries of any size. A lookup reads int32 words only and allocates nothing.
 *
 * Translations that are being fetched or used while an invalidation arrives are tracked apart: the fetched ones are
 * discarded, and the invalidation is complete only when the used ones are done (10.3.1).
 */
import { Access, type AtsCompletion, type CachedEntry, hex, IommuError, join64, NO_PASID } from "@iommukit/core";

/** `sets` is a power of two; `sets` × `ways` entries. */
export interface AtcGeometry {
  /** A power of two. */
  readonly sets: number;
  readonly ways: number;
}

/** Words of an entry. A shift of 0 marks it free. */
const SHIFT = 0;
const TAG_HI = 1;
const TAG_LO = 2;
const PASID = 3;
const FLAGS = 4;
const PA_HI = 5;
const PA_LO = 6;
const STAMP = 7;
const WORDS = 8;

/** Access.READ, WRITE and EXEC in bits 2:0; then: */
const PRIVILEGED = 8;
const GLOBAL = 16;
const UNTRANSLATED_ONLY = 32;

/** A range of one address space whose translation somebody fetches, or uses for a transaction under way. */
export interface AtcRange {
  readonly kind: "fetch" | "use";
  readonly pasid: number;
  readonly hi: number;
  readonly lo: number;
  readonly shift: number;
  /** An invalidation hit the range since it was opened: what is fetched must be thrown away. */
  stale: boolean;
}

/** Clears the low `shift` bits of the pair's half: the mask for the high or the low word. */
function lowMask(shift: number): number {
  return shift >= 32 ? 0 : -1 << shift;
}
function highMask(shift: number): number {
  return shift >= 64 ? 0 : shift > 32 ? -1 << (shift - 32) : -1;
}

/** `AtsUnit` has one. */
export class Atc {
  readonly #words: Int32Array;
  readonly #ranges = new Set<AtcRange>();
  /** How many valid entries have each size, and the sizes in use, smallest first. */
  readonly #perShift = new Int32Array(65);
  #shifts: readonly number[] = [];
  #clock = 0;
  /** Word index of the entry that the last successful lookup found. */
  #found = 0;

  constructor(readonly geometry: AtcGeometry) {
    const { sets, ways } = geometry;
    if (!(sets >= 1 && ways >= 1 && Number.isInteger(ways)) || (sets & (sets - 1)) !== 0)
      throw new IommuError("EINVAL", `an ATC of ${sets} sets and ${ways} ways: sets are a power of two`);
    this.#words = new Int32Array(sets * ways * WORDS);
  }

  /** Entries in use. */
  get size(): number {
    return this.#perShift.reduce((sum, count) => sum + count, 0);
  }

  /** Entries of one address space. */
  count(pasid: number): number {
    let count = 0;
    for (let at = 0; at < this.#words.length; at += WORDS) {
      if (this.#words[at + SHIFT] !== 0 && this.#words[at + PASID] === pasid) count++;
    }
    return count;
  }

  /** Every entry; for reports. */
  *contents(): Generator<CachedEntry> {
    const words = this.#words;
    for (let at = 0; at < words.length; at += WORDS) {
      if (words[at + SHIFT] === 0) continue;
      const flags = words[at + FLAGS];
      const pasid = words[at + PASID] < 0 ? "no PASID" : `PASID ${words[at + PASID]}`;
      const page = `${2 ** (words[at + SHIFT] - 10)} KiB at ${hex(join64(words[at + TAG_HI], words[at + TAG_LO]))}`;
      const rights = ["r", "w", "x"].filter((_, bit) => ((flags >>> bit) & 1) === 1).join("");
      const says = `→ ${hex(join64(words[at + PA_HI], words[at + PA_LO]))} ${rights}`;
      yield { cache: "ATC", tag: `${pasid}, ${page}`, says };
    }
  }

  get capacity(): number {
    return this.geometry.sets * this.geometry.ways;
  }

  #set(hi: number, lo: number, shift: number): number {
    const page = shift >= 64 ? 0 : shift >= 32 ? hi >>> (shift - 32) : (lo >>> shift) | (hi << (32 - shift));
    return (page & (this.geometry.sets - 1)) * this.geometry.ways * WORDS;
  }

  /**
   * @param access Access bits: PRIV selects between privileged and user translations
   * @returns true when a translation for the address is cached, whatever it permits; `perms`, `paHi` … then describe it
   */
  lookup(pasid: number, hi: number, lo: number, access: number): boolean {
    const words = this.#words;
    const privileged = access & Access.PRIV;
    for (const shift of this.#shifts) {
      const high = hi & highMask(shift);
      const low = lo & lowMask(shift);
      const start = this.#set(hi, lo, shift);
      for (let at = start; at < start + this.geometry.ways * WORDS; at += WORDS) {
        if (words[at + SHIFT] !== shift || words[at + TAG_LO] !== low || words[at + TAG_HI] !== high) continue;
        const flags = words[at + FLAGS];
        if ((flags & PRIVILEGED) !== privileged) continue;
        if (words[at + PASID] !== pasid && ((flags & GLOBAL) === 0 || pasid === NO_PASID)) continue;
        words[at + STAMP] = this.#clock = (this.#clock + 1) | 0;
        this.#found = at;
        return true;
      }
    }
    return false;
  }

  /** Access.READ, WRITE, EXEC that the entry found permits. */
  get perms(): number {
    return this.#words[this.#found + FLAGS] & 7;
  }

  get shift(): number {
    return this.#words[this.#found + SHIFT];
  }

  /** U: only untranslated requests may use the range. */
  get untranslatedOnly(): boolean {
    return (this.#words[this.#found + FLAGS] & UNTRANSLATED_ONLY) !== 0;
  }

  /** Physical address of the looked-up address, as halves. */
  paHi(hi: number): number {
    const mask = highMask(this.shift);
    return (this.#words[this.#found + PA_HI] & mask) | (hi & ~mask);
  }

  paLo(lo: number): number {
    const mask = lowMask(this.shift);
    return (this.#words[this.#found + PA_LO] & mask) | (lo & ~mask);
  }

  /** Keeps a completion that grants something; the entry becomes the found one. @returns false when it grants nothing */
  fill(pasid: number, hi: number, lo: number, access: number, completion: AtsCompletion): boolean {
    const perms =
      (completion.read ? Access.READ : 0) |
      (completion.write ? Access.WRITE : 0) |
      (completion.execute ? Access.EXEC : 0);
    if ((perms & (Access.READ | Access.WRITE)) === 0) return false;
    const { shift } = completion;
    const at = this.#victim(pasid, hi, lo, shift, access);
    const words = this.#words;
    this.#drop(at);
    words[at + SHIFT] = shift;
    words[at + TAG_HI] = hi & highMask(shift);
    words[at + TAG_LO] = lo & lowMask(shift);
    words[at + PASID] = pasid;
    words[at + FLAGS] =
      perms |
      (access & Access.PRIV) |
      (completion.global ? GLOBAL : 0) |
      (completion.untranslatedOnly ? UNTRANSLATED_ONLY : 0);
    words[at + PA_HI] = completion.hi;
    words[at + PA_LO] = completion.lo;
    words[at + STAMP] = this.#clock = (this.#clock + 1) | 0;
    if (this.#perShift[shift]++ === 0) this.#listShifts();
    this.#found = at;
    return true;
  }

  /** The entry with the same tag; else a free one; else the one used longest ago. */
  #victim(pasid: number, hi: number, lo: number, shift: number, access: number): number {
    const words = this.#words;
    const start = this.#set(hi, lo, shift);
    let best = start;
    for (let at = start; at < start + this.geometry.ways * WORDS; at += WORDS) {
      const same =
        words[at + SHIFT] === shift &&
        words[at + TAG_HI] === (hi & highMask(shift)) &&
        words[at + TAG_LO] === (lo & lowMask(shift));
      if (same && words[at + PASID] === pasid && (words[at + FLAGS] & PRIVILEGED) === (access & Access.PRIV)) return at;
      if (words[best + SHIFT] === 0) continue;
      if (words[at + SHIFT] === 0 || ((words[at + STAMP] - words[best + STAMP]) | 0) < 0) best = at;
    }
    return best;
  }

  #drop(at: number): void {
    const shift = this.#words[at + SHIFT];
    if (shift === 0) return;
    this.#words[at + SHIFT] = 0;
    if (--this.#perShift[shift] === 0) this.#listShifts();
  }

  #listShifts(): void {
    this.#shifts = [...this.#perShift.keys()].filter((shift) => this.#perShift[shift] > 0);
  }

  /**
   * Takes out what overlaps the range; marks open ranges that do as stale.
   * @param shift log2 of the range; 64 is everything. @param global entries of every PASID
   * @returns entries removed
   */
  invalidate(pasid: number, hi: number, lo: number, shift: number, global: boolean): number {
    let removed = 0;
    const words = this.#words;
    for (let at = 0; at < words.length; at += WORDS) {
      const size = words[at + SHIFT];
      if (size === 0) continue;
      // A specific PASID also takes global entries along: dropping more than asked is always allowed.
      const tagged =
        global || words[at + PASID] === pasid || ((words[at + FLAGS] & GLOBAL) !== 0 && pasid !== NO_PASID);
      if (!tagged || !overlaps(words[at + TAG_HI], words[at + TAG_LO], size, hi, lo, shift)) continue;
      this.#drop(at);
      removed++;
    }
    for (const range of this.#ranges) if (hits(range, pasid, hi, lo, shift, global)) range.stale = true;
    return removed;
  }

  clear(): void {
    this.#words.fill(0);
    this.#perShift.fill(0);
    this.#shifts = [];
    for (const range of this.#ranges) range.stale = true;
  }

  /**
   * Tells that a translation is fetched or used from now on, until `close`. The size of what is being fetched is not known
   * before it is there: open a fetch with a shift of 64.
   */
  open(kind: AtcRange["kind"], pasid: number, hi: number, lo: number, shift: number): AtcRange {
    const range = { kind, pasid, hi: hi & highMask(shift), lo: lo & lowMask(shift), shift, stale: false };
    this.#ranges.add(range);
    return range;
  }

  close(range: AtcRange): void {
    this.#ranges.delete(range);
  }

  /** Open uses that an invalidation of the range has to wait for. */
  usesOf(pasid: number, hi: number, lo: number, shift: number, global: boolean): AtcRange[] {
    return [...this.#ranges].filter((range) => range.kind === "use" && hits(range, pasid, hi, lo, shift, global));
  }
}

function hits(range: AtcRange, pasid: number, hi: number, lo: number, shift: number, global: boolean): boolean {
  return (global || range.pasid === pasid) && overlaps(range.hi, range.lo, range.shift, hi, lo, shift);
}

/** Both ranges are naturally aligned: they overlap when they agree above the larger size. */
function overlaps(aHi: number, aLo: number, aShift: number, bHi: number, bLo: number, bShift: number): boolean {
  const shift = Math.max(aShift, bShift);
  return ((aHi ^ bHi) & highMask(shift)) === 0 && ((aLo ^ bLo) & lowMask(shift)) === 0;
}
