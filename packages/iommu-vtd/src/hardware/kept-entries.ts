/** The words of the entries on the way to a PASID table entry as they were when they were decoded, beside those that stand in memory now. */
import { type PhysicalMemory, WINDOW_MASK } from "@iommukit/core";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY } from "../spec/pasid-table.js";
import { SM_CONTEXT_ENTRY } from "../spec/root-context.js";
import type { ContextTables } from "./context-tables.js";
import type { PasidTables } from "./pasid-tables.js";

/** Half of a scalable-mode root entry. */
const ROOT_WORDS = 2;
const NOWHERE: Int32Array = new Int32Array(PASID_ENTRY.words);

/** The entry's words in place; null when it has to be fetched through `view`. */
function inPlace(memory: PhysicalMemory, hi: number, lo: number, words: number): Int32Array | null {
  const window = memory.window?.(hi, lo) ?? null;
  if (window === null) return null;
  const at = ((lo >>> 2) - window.first) & WINDOW_MASK;
  return at + words <= window.words.length ? window.words.subarray(at, at + words) : null;
}

export class KeptEntries {
  #root = NOWHERE;
  #context = NOWHERE;
  #directory = NOWHERE;
  #pasid = NOWHERE;
  // Fields: an array of them would be as many checks of its bounds.
  #root0 = 0;
  #root1 = 0;
  #context0 = 0;
  #context1 = 0;
  #context2 = 0;
  #directory0 = 0;
  #directory1 = 0;
  #pasid0 = 0;
  #pasid1 = 0;
  #pasid2 = 0;
  #pasid3 = 0;
  #pasid4 = 0;
  #pasid5 = 0;

  /** After both have read their tables. @returns false when entries have to be fetched through `view` each time */
  keep(memory: PhysicalMemory, contexts: ContextTables, pasids: PasidTables): boolean {
    const root = inPlace(memory, contexts.rootHi, contexts.rootLo, ROOT_WORDS);
    const context = inPlace(memory, contexts.hi, contexts.lo, SM_CONTEXT_ENTRY.words);
    const directory = inPlace(memory, pasids.directoryHi, pasids.directoryLo, PASID_DIRECTORY_ENTRY.words);
    const pasid = inPlace(memory, pasids.hi, pasids.lo, PASID_ENTRY.words);
    if (root === null || context === null || directory === null || pasid === null) return false;
    this.#root = root;
    this.#context = context;
    this.#directory = directory;
    this.#pasid = pasid;
    [this.#root0, this.#root1] = root;
    [this.#context0, this.#context1, this.#context2] = context;
    [this.#directory0, this.#directory1] = directory;
    [this.#pasid0, this.#pasid1, this.#pasid2, this.#pasid3, this.#pasid4, this.#pasid5] = pasid;
    return true;
  }

  /** Fetches the entries again. @returns 0 when all are as they were; a legal one has zeros from its last field on */
  changed(): number {
    const root = this.#root;
    const context = this.#context;
    const directory = this.#directory;
    const w = this.#pasid;
    return (
      (root[0] ^ this.#root0) |
      (root[1] ^ this.#root1) |
      (context[0] ^ this.#context0) |
      (context[1] ^ this.#context1) |
      (context[2] ^ this.#context2) |
      (context[3] | context[4] | context[5] | context[6] | context[7]) |
      (directory[0] ^ this.#directory0) |
      (directory[1] ^ this.#directory1) |
      (w[0] ^ this.#pasid0) |
      (w[1] ^ this.#pasid1) |
      (w[2] ^ this.#pasid2) |
      (w[3] ^ this.#pasid3) |
      (w[4] ^ this.#pasid4) |
      (w[5] ^ this.#pasid5) |
      (w[6] | w[7] | w[8] | w[9] | w[10]) |
      (w[11] | w[12] | w[13] | w[14] | w[15])
    );
  }
}
