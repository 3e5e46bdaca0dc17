/**
 * RAM as hardware may see it while software changes it. Software stores 8 bytes at a time; hardware fetches an entry in beats
 * of 16. A fetch that overlaps an update may have read its first beats before a store and the later ones after it: each
 * beat is of a moment not before the previous beat's, not before the last ordering point (a completed synchronisation of the
 * IOMMU's queue, or an invalidation of a cache of entries: neither leaves older fetches under way), and not before the one who needs it could have begun: only what others
 * stored while it stood still is in doubt (`overlap`). Which moment, the scheduler chooses.
 *
 * Entries of one beat are always whole: a fetch of them is one moment, and then it may as well be this one.
 */
import { type MemoryRegion, PAGE_SIZE, SlabMemory } from "@iommukit/core";
import { Hash } from "../reduction/hash.js";
import type { Doubts, History } from "../reduction/history.js";
import { type Actor, isThread } from "../schedule/actor.js";

const BEAT_WORDS = 4;
/** Entries are 64 bytes at most (STE, CD, PASID table entry). */
const MOST_WORDS = 16;

/** A word of 8 bytes as it was before a store. */
interface Past {
  /** Number of the store that ended it. */
  readonly until: number;
  readonly pa: number;
  readonly hi: number;
  readonly lo: number;
  /** Which step stored. */
  readonly mark: number;
}

/** A fetch that mixed moments. */
export interface TornFetch {
  readonly address: number;
  readonly words: Int32Array;
  /** The entry was never like that. */
  readonly torn: boolean;
}

/** For `createPlatform({ memory })`. */
export class VersionedMemory extends SlabMemory implements Doubts {
  /** Stores of software since the beginning. */
  #clock = 0;
  /** Stores that happened while the one who fetches now stood still: numbers above the first, up to the second. */
  #from = 0;
  #to = 0;
  /** Since the last ordering point, oldest first. */
  #past: Past[] = [];
  readonly #scratch = new Int32Array(MOST_WORDS);
  onFetch: ((fetch: TornFetch) => void) | undefined;
  /** Told of every access. */
  history: History | undefined;

  /** @param choose one of `count` possibilities; 0 is now */
  constructor(
    regions: readonly MemoryRegion[],
    private readonly choose: (count: number, what: string) => number,
  ) {
    super(regions);
  }

  /** Number of the last store. */
  get clock(): number {
    return this.#clock;
  }

  /** From now on somebody runs who stood still while the stores after `from` were made. */
  overlap(from: number): void {
    this.#from = from;
    this.#to = this.#clock;
  }

  /** Every fetch that began before is over. */
  orderingPoint(): void {
    if (this.#past.length > 0) this.#past = [];
  }

  /** Each fetch has to be asked for. */
  override window(): null {
    return null;
  }

  override store64(pa: number, hi: number, lo: number): boolean {
    this.history?.memory(pa, 8, true);
    this.#keep(pa);
    return super.store64(pa, hi, lo);
  }

  override store32(pa: number, value: number): boolean {
    this.history?.memory(pa, 4, true);
    return super.store32(pa, value);
  }

  override readBytes(pa: number, into: Uint8Array): boolean {
    this.history?.memory(pa, into.length, false);
    return super.readBytes(pa, into);
  }

  override writeBytes(pa: number, bytes: Uint8Array): boolean {
    this.history?.memory(pa, bytes.length, true);
    return super.writeBytes(pa, bytes);
  }

  override fill(pa: number, length: number, byte: number): boolean {
    this.history?.memory(pa, length, true);
    // Whole pages are filled when nobody can be fetching from them.
    if (length < PAGE_SIZE) for (let at = pa; at < pa + length; at += 8) this.#keep(at);
    return super.fill(pa, length, byte);
  }

  #keep(pa: number): void {
    const words = super.view(Math.floor(pa / 2 ** 32), pa | 0, 2);
    if (words === null) return;
    const [lo, hi, mark] = [words[this.viewAt], words[this.viewAt + 1], this.history?.mark ?? 0];
    this.#past.push({ until: ++this.#clock, pa, lo, hi, mark });
  }

  fold(into: Hash, actors: ReadonlyMap<Actor, Hash>): void {
    if (this.#past.length === 0) return;
    for (const { mark } of this.#past) into.mix(Math.floor(mark / 2 ** 32), mark | 0);
    into.mix(this.#storesAfter(this.#from), this.#storesAfter(this.#to));
    const all = new Hash();
    for (const [actor, who] of actors) {
      if (!isThread(actor) || actor.done || actor.stoppedAt < this.#past[0].until) continue;
      const after = this.#storesAfter(actor.stoppedAt);
      const one = new Hash();
      one.copy(who);
      one.mix(after, after);
      all.add(one);
    }
    into.take(all);
  }

  #storesAfter(moment: number): number {
    let count = 0;
    for (let i = this.#past.length - 1; i >= 0 && this.#past[i].until > moment; i--) count++;
    return count;
  }

  override view(hi: number, lo: number, words: number): Int32Array | null {
    this.history?.memory(hi * 2 ** 32 + (lo >>> 0), words * 4, false);
    const now = super.view(hi, lo, words);
    if (now === null || words <= BEAT_WORDS || words > MOST_WORDS || this.#past.length === 0) return now;
    const pa = hi * 2 ** 32 + (lo >>> 0);
    const moments = this.#moments(pa, words);
    return moments.length === 0 ? now : this.#fetch(pa, words, now, moments);
  }

  /** The moments at which something of the entry changed, latest first. */
  #moments(pa: number, words: number): readonly number[] {
    const end = pa + words * 4;
    const moments: number[] = [];
    for (let i = this.#past.length - 1; i >= 0; i--) {
      const past = this.#past[i];
      if (past.pa < pa || past.pa >= end) continue;
      if (past.until > this.#from && past.until <= this.#to) moments.push(past.until);
    }
    return moments;
  }

  #fetch(pa: number, words: number, now: Int32Array, moments: readonly number[]): Int32Array {
    const start = this.viewAt;
    const scratch = this.#scratch;
    // Possibility 0 is now, possibility i just before the i-th latest store; later beats may only be younger.
    let oldest = moments.length;
    let mixed = false;
    let first: number | undefined;
    for (let beat = 0; beat * BEAT_WORDS < words; beat++) {
      const chosen = oldest === 0 ? 0 : this.choose(oldest + 1, `beat ${beat} of the entry at 0x${pa.toString(16)}`);
      // Beat 0 chooses among all moments; what is left for the next is what is not older.
      first ??= chosen;
      mixed ||= chosen !== first;
      oldest = chosen;
      this.#copyBeat(pa, beat, now, start, chosen === 0 ? this.#clock + 1 : moments[chosen - 1]);
    }
    this.viewAt = 0;
    this.onFetch?.({
      address: pa,
      words: scratch.slice(0, words),
      torn: mixed && !this.#ever(pa, words, now, start, moments),
    });
    return scratch;
  }

  #copyBeat(pa: number, beat: number, now: Int32Array, start: number, moment: number): void {
    for (let at = beat * BEAT_WORDS; at < (beat + 1) * BEAT_WORDS; at += 2) {
      const past = this.#at(pa + at * 4, moment);
      this.#scratch[at] = past ? past.lo : now[start + at];
      this.#scratch[at + 1] = past ? past.hi : now[start + at + 1];
    }
  }

  /** What the word was just before the store `moment`; undefined when it is the same now. */
  #at(pa: number, moment: number): Past | undefined {
    return this.#past.find((past) => past.pa === pa && past.until >= moment);
  }

  /** Whether all of it was in memory at one moment. */
  #ever(pa: number, words: number, now: Int32Array, start: number, moments: readonly number[]): boolean {
    return [this.#clock + 1, ...moments].some((moment) => {
      for (let at = 0; at < words; at += 2) {
        const past = this.#at(pa + at * 4, moment);
        if (this.#scratch[at] !== (past ? past.lo : now[start + at])) return false;
        if (this.#scratch[at + 1] !== (past ? past.hi : now[start + at + 1])) return false;
      }
      return true;
    });
  }
}
