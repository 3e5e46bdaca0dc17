/**
 * Items that each hold an interval of whole numbers and never overlap. Stays quick with a million of them: kept in chunks, so
 * that an insertion or a removal moves the rest of one chunk and nothing else. The ends stand by themselves in arrays of
 * numbers: a search touches no item, which would be a miss in the processor's caches at each step.
 */
const LIMIT = 128;

export class IntervalMap<T> {
  /** Where each chunk begins, and its intervals' first and last numbers and items. No chunk is empty. */
  readonly #starts: number[] = [];
  readonly #firsts: number[][] = [];
  readonly #lasts: number[][] = [];
  readonly #items: T[][] = [];

  /** The interval, both ends in, must be free. */
  insert(first: number, last: number, item: T): void {
    if (this.#starts.length === 0) this.#insertChunk(0, [first], [last], [item]);
    else this.#insertInto(Math.max(0, lastUpTo(this.#starts, first)), first, last, item);
  }

  #insertInto(chunk: number, first: number, last: number, item: T): void {
    const firsts = this.#firsts[chunk];
    const lasts = this.#lasts[chunk];
    const items = this.#items[chunk];
    const index = lastUpTo(firsts, first) + 1;
    firsts.splice(index, 0, first);
    lasts.splice(index, 0, last);
    items.splice(index, 0, item);
    this.#starts[chunk] = firsts[0];
    if (firsts.length <= LIMIT) return;
    // Who maps upwards leaves full chunks behind.
    const kept = index === LIMIT ? LIMIT : LIMIT / 2;
    this.#insertChunk(chunk + 1, firsts.splice(kept), lasts.splice(kept), items.splice(kept));
  }

  #insertChunk(chunk: number, firsts: number[], lasts: number[], items: T[]): void {
    this.#starts.splice(chunk, 0, firsts[0]);
    this.#firsts.splice(chunk, 0, firsts);
    this.#lasts.splice(chunk, 0, lasts);
    this.#items.splice(chunk, 0, items);
  }

  /** @param first of an interval that is there */
  remove(first: number): void {
    const chunk = lastUpTo(this.#starts, first);
    const firsts = this.#firsts[chunk];
    const index = lastUpTo(firsts, first);
    firsts.splice(index, 1);
    this.#lasts[chunk].splice(index, 1);
    this.#items[chunk].splice(index, 1);
    if (firsts.length > 0) this.#starts[chunk] = firsts[0];
    else for (const lists of [this.#starts, this.#firsts, this.#lasts, this.#items]) lists.splice(chunk, 1);
  }

  /** The item with the lowest interval that overlaps this one. */
  find(first: number, last: number): T | undefined {
    let chunk = Math.max(0, lastUpTo(this.#starts, first));
    if (chunk === this.#starts.length) return undefined;
    let index = lastUpTo(this.#firsts[chunk], first);
    if (index < 0 || this.#lasts[chunk][index] < first) index++;
    if (index === this.#firsts[chunk].length) {
      chunk++;
      index = 0;
    }
    return chunk < this.#starts.length && this.#firsts[chunk][index] <= last ? this.#items[chunk][index] : undefined;
  }

  /** All items, lowest first. */
  [Symbol.iterator](): Iterator<T> {
    return this.#items.flat()[Symbol.iterator]();
  }
}

/** Index of the last number in a sorted list that is not above `value`; -1 when all are. */
function lastUpTo(list: readonly number[], value: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low - 1;
}
