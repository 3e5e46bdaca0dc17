/** The words of a table entry as they were when it was decoded, beside those that stand in memory now. */
import { type PhysicalMemory, WINDOW_MASK } from "@iommukit/core";

const WORDS = 5;
const NOWHERE: Int32Array = new Int32Array(WORDS);

/** Words 0 to 4: what stage 1 depends on in an STE, and in a CD without TTB1. */
export class KeptEntry {
  #entry = NOWHERE;
  #word0 = 0;
  #word1 = 0;
  #word2 = 0;
  #word3 = 0;
  #word4 = 0;

  /** @returns false when the entry has to be fetched through `view` each time */
  keep(memory: PhysicalMemory, hi: number, lo: number): boolean {
    const window = memory.window?.(hi, lo) ?? null;
    if (window === null) return false;
    const at = ((lo >>> 2) - window.first) & WINDOW_MASK;
    const entry = window.words.subarray(at, at + WORDS);
    this.#entry = entry;
    this.#word0 = entry[0];
    this.#word1 = entry[1];
    this.#word2 = entry[2];
    this.#word3 = entry[3];
    this.#word4 = entry[4];
    return true;
  }

  /** Fetches the entry again. @returns 0 when it is as it was */
  changed(): number {
    const entry = this.#entry;
    return (
      (entry[0] ^ this.#word0) |
      (entry[1] ^ this.#word1) |
      (entry[2] ^ this.#word2) |
      (entry[3] ^ this.#word3) |
      (entry[4] ^ this.#word4)
    );
  }
}
