/**
 * Whatever reads table entries in a window: the one of the last time, which most have in common, is at hand. A base class: an
 * object of its own would be one more load on the way to each entry.
 */
import type { MemoryWindow } from "./physical-memory.js";

const NO_WORDS: Int32Array = new Int32Array(0);

/** For chips' walkers, on a memory that has windows. */
export abstract class WindowReader {
  protected words: Int32Array = NO_WORDS;
  protected windowFirst = 0;
  protected windowHi = 0;
  /** Length of `words`. */
  protected windowEnd = 0;
  #window: MemoryWindow | undefined;

  protected enter(window: MemoryWindow): void {
    if (window === this.#window) return;
    this.#window = window;
    this.words = window.words;
    this.windowFirst = window.first;
    this.windowHi = window.hi;
    this.windowEnd = window.words.length;
  }
}
