/**
 * Root table and context tables (VT-d 9.1 to 9.4): one context entry per function, made when it is first needed. An entry
 * is written from its last word to its first, so that P appears last, and loses P before anything else of it.
 */
import { CONTEXT_ENTRY, ROOT_ENTRY, SM_CONTEXT_ENTRY, SM_ROOT_ENTRY } from "../spec/root-context.js";
import { storeEntry, type Unit } from "./unit.js";

export class RootTable {
  readonly root: number;
  readonly #owner: string;
  /** Context tables by bus, and in scalable mode by half of the bus. */
  readonly #tables = new Map<number, number>();

  constructor(private readonly unit: Unit) {
    this.#owner = `${unit.name} root and context tables`;
    this.root = unit.pages.alloc(1, this.#owner);
  }

  get #layout() {
    return this.unit.features.scalable ? SM_CONTEXT_ENTRY : CONTEXT_ENTRY;
  }

  /** Physical address of the function's context entry; its table is made if need be. @throws IommuError ENOMEM */
  entryOf(rid: number): number {
    const scalable = this.unit.features.scalable;
    const key = scalable ? rid >>> 7 : rid >>> 8;
    let table = this.#tables.get(key);
    if (table === undefined) {
      table = this.unit.pages.alloc(1, this.#owner);
      this.#tables.set(key, table);
      this.#writeRootEntry(key, table);
    }
    return table + (scalable ? rid & 0x7f : rid & 0xff) * this.#layout.bytes;
  }

  #writeRootEntry(key: number, table: number): void {
    const scalable = this.unit.features.scalable;
    const words = scalable
      ? SM_ROOT_ENTRY.encode(key & 1 ? { UP: true, UCTP: table } : { LP: true, LCTP: table })
      : ROOT_ENTRY.encode({ P: true, CTP: table });
    const half = scalable ? (key & 1) * 2 : 0;
    const bus = scalable ? key >>> 1 : key;
    storeEntry(this.unit, "root table", this.root + bus * 16 + half * 4, words[half + 1], words[half]);
  }

  read(rid: number): Int32Array {
    const at = this.entryOf(rid);
    return Int32Array.from({ length: this.#layout.words }, (_, i) => this.unit.memory.load32(at + i * 4));
  }

  isPresent(rid: number): boolean {
    return this.#layout.P.decode(this.read(rid));
  }

  /** Writes a whole entry that is not present yet. */
  async create(rid: number, words: Int32Array): Promise<void> {
    const at = this.entryOf(rid);
    for (let word = words.length - 2; word >= 0; word -= 2) {
      storeEntry(this.unit, this.#layout.name, at + word * 4, words[word + 1], words[word]);
      const turn = this.unit.scheduler.point("context entry written");
      if (turn) await turn;
    }
  }

  /** Replaces the first quad-word, which holds P and all enables, with one store. */
  update(rid: number, words: Int32Array): void {
    storeEntry(this.unit, this.#layout.name, this.entryOf(rid), words[1], words[0]);
  }

  /** Takes P off. The caller invalidates and then calls `erase`. */
  clearPresent(rid: number): void {
    const words = this.read(rid);
    this.#layout.P.set(words, 0, 0);
    this.update(rid, words);
  }

  erase(rid: number): void {
    const at = this.entryOf(rid);
    for (let byte = 0; byte < this.#layout.bytes; byte += 8) storeEntry(this.unit, this.#layout.name, at + byte, 0, 0);
  }

  free(): void {
    for (const table of this.#tables.values()) this.unit.pages.free(table);
    this.#tables.clear();
    this.unit.pages.free(this.root);
  }
}
