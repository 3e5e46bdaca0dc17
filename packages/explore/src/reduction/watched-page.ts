/** The words of a page that a run has touched. A page can be touched as a whole: filled, copied. */
import type { History } from "./history.js";
import { Spot } from "./spot.js";

/** Words of 8 bytes. */
export const PAGE_WORDS = 512;

export class WatchedPage {
  readonly #words = new Map<number, Spot>();
  /** What has happened to the page as a whole. */
  #whole: Spot | undefined;

  word(history: History, at: number): Spot {
    let spot = this.#words.get(at);
    if (spot === undefined) {
      spot = this.#whole ? partOf(this.#whole, at) : history.fresh();
      this.#words.set(at, spot);
    }
    return spot;
  }

  touch(history: History, write: boolean): void {
    this.#whole ??= history.fresh();
    history.touch(this.#whole, write);
    for (const spot of this.#words.values()) history.touch(spot, write);
  }
}

function partOf(whole: Spot, at: number): Spot {
  const spot = new Spot();
  spot.written.copy(whole.written);
  spot.written.mix(at, at);
  return spot;
}
