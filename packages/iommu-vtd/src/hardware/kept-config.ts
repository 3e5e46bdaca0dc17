/**
 * The last answer for a source-id and a PASID. On a unit without configuration caches every entry on the way is still read for
 * each request, and the answer counts while no word of them has changed: decoding them again would give the same.
 */
import { type PhysicalMemory, WINDOW_MASK } from "@iommukit/core";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY } from "../spec/pasid-table.js";
import { SM_CONTEXT_ENTRY } from "../spec/root-context.js";
import { TranslationEntry } from "./config-entries.js";
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

export class KeptConfig {
  sid = -1;
  pasid = -1;
  /** What the count of changes was. */
  changes = -1;
  entry = new TranslationEntry();
  /** 1 on a unit without configuration caches. */
  uncached = 0;
  #root = NOWHERE;
  #context = NOWHERE;
  #directory = NOWHERE;
  #pasid = NOWHERE;
  #root0 = 0;
  #root1 = 0;
  #context0 = 0;
  #context1 = 0;
  #context2 = 0;
  #directory0 = 0;
  #directory1 = 0;
  /** Word 3 of a PASID table entry, which nobody else asks for. */
  #pasid3 = 0;

  set(sid: number, pasid: number, changes: number, entry: TranslationEntry): void {
    this.sid = sid;
    this.pasid = pasid;
    this.changes = changes;
    this.entry = entry;
    this.uncached = 0;
  }

  /** The same on a unit without caches, after both tables have been read. Nothing is kept where entries cannot be read in place. */
  setUncached(
    sid: number,
    pasid: number,
    changes: number,
    entry: TranslationEntry,
    memory: PhysicalMemory,
    contexts: ContextTables,
    pasids: PasidTables,
  ): void {
    const root = inPlace(memory, contexts.rootHi, contexts.rootLo, ROOT_WORDS);
    const context = inPlace(memory, contexts.hi, contexts.lo, SM_CONTEXT_ENTRY.words);
    const directory = inPlace(memory, pasids.directoryHi, pasids.directoryLo, PASID_DIRECTORY_ENTRY.words);
    const words = inPlace(memory, pasids.hi, pasids.lo, PASID_ENTRY.words);
    if (root === null || context === null || directory === null || words === null) return;
    const own = this.uncached === 1 ? this.entry : new TranslationEntry();
    own.copy(entry);
    this.set(sid, pasid, changes, own);
    this.uncached = 1;
    this.#root = root;
    this.#context = context;
    this.#directory = directory;
    this.#pasid = words;
    this.#root0 = root[0];
    this.#root1 = root[1];
    this.#context0 = context[0];
    this.#context1 = context[1];
    this.#context2 = context[2];
    this.#directory0 = directory[0];
    this.#directory1 = directory[1];
    this.#pasid3 = words[3];
  }

  /** Fetches the entries again. @returns 0 when all are as they were; a legal one has zeros from its last field on */
  changed(): number {
    const { entry } = this;
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
      (w[0] ^ entry.word0) |
      (w[1] ^ entry.word1) |
      (w[2] ^ entry.word2) |
      (w[3] ^ this.#pasid3) |
      (w[4] ^ entry.word4) |
      (w[5] ^ entry.word5) |
      (w[6] | w[7] | w[8] | w[9] | w[10]) |
      (w[11] | w[12] | w[13] | w[14] | w[15])
    );
  }
}
