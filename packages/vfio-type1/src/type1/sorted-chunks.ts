/**
 * A sorted list that stays quick with a million items: kept in chunks, so that an insertion or a removal moves the rest of
 * one chunk and nothing else. Questions are asked as tests that hold from some item on.
 */
const LIMIT = 512;

export class SortedChunks<T> {
  /** No chunk is empty. */
  readonly #chunks: T[][] = [];

  /** @param before whether the first argument stands before the second */
  constructor(private readonly before: (a: T, b: T) => boolean) {}

  insert(item: T): void {
    const notBefore = (other: T) => !this.before(other, item);
    const at = Math.min(this.#chunkWith(notBefore), this.#chunks.length - 1);
    if (at < 0) {
      this.#chunks.push([item]);
      return;
    }
    const chunk = this.#chunks[at];
    chunk.splice(firstIndex(chunk, notBefore), 0, item);
    if (chunk.length > LIMIT) this.#chunks.splice(at + 1, 0, chunk.splice(LIMIT / 2));
  }

  /** The item must be in the list. */
  remove(item: T): void {
    const notBefore = (other: T) => !this.before(other, item);
    const at = this.#chunkWith(notBefore);
    const chunk = this.#chunks[at];
    chunk.splice(firstIndex(chunk, notBefore), 1);
    if (chunk.length === 0) this.#chunks.splice(at, 1);
  }

  /** The first item that passes; all after it do as well. */
  first(test: (item: T) => boolean): T | undefined {
    const chunk = this.#chunks[this.#chunkWith(test)];
    return chunk?.[firstIndex(chunk, test)];
  }

  /** From the first item that passes to the end. The list must not change meanwhile. */
  *from(test: (item: T) => boolean): Generator<T> {
    let at = this.#chunkWith(test);
    let index = at < this.#chunks.length ? firstIndex(this.#chunks[at], test) : 0;
    for (; at < this.#chunks.length; at++, index = 0) {
      const chunk = this.#chunks[at];
      for (; index < chunk.length; index++) yield chunk[index];
    }
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#chunks.flat()[Symbol.iterator]();
  }

  /** The first chunk whose last item passes: the first item that does is in it. */
  #chunkWith(test: (item: T) => boolean): number {
    return firstIndex(this.#chunks, (chunk) => test(chunk[chunk.length - 1]));
  }
}

/** Index of the first that passes in a list where all after it do as well; its length when none does. */
function firstIndex<T>(list: readonly T[], test: (item: T) => boolean): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (test(list[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
