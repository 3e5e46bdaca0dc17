/** The words of an STE and a CD as they were when they were decoded, beside those that stand in memory now. */
import { type PhysicalMemory, WINDOW_MASK } from "@iommukit/core";

/** Words that stage 1 depends on: in an STE without stage 2, and in a CD without TTB1. */
const STE_WORDS = 5;
const CD_WORDS = 4;
const NOWHERE: Int32Array = new Int32Array(STE_WORDS);

export interface EntryAddress {
  readonly hi: number;
  readonly lo: number;
}

export class KeptEntries {
  #ste = NOWHERE;
  #cd = NOWHERE;
  // Fields: an array of them would be as many checks of its bounds.
  #ste0 = 0;
  #ste1 = 0;
  #ste2 = 0;
  #ste3 = 0;
  #ste4 = 0;
  #cd0 = 0;
  #cd1 = 0;
  #cd2 = 0;
  #cd3 = 0;

  /** @returns false when entries have to be fetched through `view` each time */
  keep(memory: PhysicalMemory, steAt: EntryAddress, cdAt: EntryAddress): boolean {
    const ste = entry(memory, steAt, STE_WORDS);
    const cd = entry(memory, cdAt, CD_WORDS);
    if (ste === null || cd === null) return false;
    this.#ste = ste;
    this.#cd = cd;
    [this.#ste0, this.#ste1, this.#ste2, this.#ste3, this.#ste4] = ste;
    [this.#cd0, this.#cd1, this.#cd2, this.#cd3] = cd;
    return true;
  }

  /** Fetches both again. @returns 0 when they are as they were */
  changed(): number {
    const ste = this.#ste;
    const cd = this.#cd;
    return (
      (ste[0] ^ this.#ste0) |
      (ste[1] ^ this.#ste1) |
      (ste[2] ^ this.#ste2) |
      (ste[3] ^ this.#ste3) |
      (ste[4] ^ this.#ste4) |
      (cd[0] ^ this.#cd0) |
      (cd[1] ^ this.#cd1) |
      (cd[2] ^ this.#cd2) |
      (cd[3] ^ this.#cd3)
    );
  }
}

function entry(memory: PhysicalMemory, { hi, lo }: EntryAddress, words: number): Int32Array | null {
  const window = memory.window?.(hi, lo) ?? null;
  if (window === null) return null;
  const at = ((lo >>> 2) - window.first) & WINDOW_MASK;
  return window.words.subarray(at, at + words);
}
