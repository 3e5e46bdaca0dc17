/**
 * The PASID directory and PASID tables of one function (VT-d 9.5, 9.6). Entries are 64 bytes that hardware fetches in four
 * beats: a new one gets P last, a live one loses P first and is zeroed only when no cache holds it any more (L-7).
 */
import { IommuError } from "@iommukit/core";
import { PASID_DIRECTORY_ENTRY, PASID_ENTRY, PASID_TABLE_SHIFT } from "../spec/pasid-table.js";
import { storeEntry, type Unit } from "./unit.js";

const ENTRY_QUADS = PASID_ENTRY.bytes / 8;
const PAGE_BYTES = 4096;

export class PasidTable {
  readonly directory: number;
  /** SM_CONTEXT_ENTRY.PDTS: the directory has 2^(n + 7) entries. */
  readonly pdts: number;
  /** PASIDs from 0 up that the directory reaches. */
  readonly size: number;
  readonly #tables = new Map<number, number>();
  readonly #owner: string;

  /** @param bits bits of the largest PASID; 0 for a function that sends none: the directory is one page at least */
  constructor(
    private readonly unit: Unit,
    name: string,
    bits: number,
  ) {
    this.#owner = `${unit.name} PASID tables of ${name}`;
    const entries = Math.max(2 ** Math.max(bits - PASID_TABLE_SHIFT, 0), PAGE_BYTES / 8);
    this.pdts = Math.log2(entries) - 7;
    this.size = entries * 2 ** PASID_TABLE_SHIFT;
    this.directory = unit.pages.alloc((entries * 8) / PAGE_BYTES, this.#owner);
  }

  /** Physical address of the entry; its table is made if need be. @throws IommuError ERANGE, ENOMEM */
  entryOf(pasid: number): number {
    if (pasid >= this.size)
      throw new IommuError("ERANGE", `PASID ${pasid} is beyond the ${this.size} of ${this.#owner}`);
    const index = pasid >>> PASID_TABLE_SHIFT;
    let table = this.#tables.get(index);
    if (table === undefined) {
      table = this.unit.pages.alloc(1, this.#owner);
      this.#tables.set(index, table);
      const words = PASID_DIRECTORY_ENTRY.encode({ P: true, SMPTBLPTR: table });
      storeEntry(this.unit, PASID_DIRECTORY_ENTRY.name, this.directory + index * 8, words[1], words[0]);
    }
    return table + (pasid & (2 ** PASID_TABLE_SHIFT - 1)) * PASID_ENTRY.bytes;
  }

  read(pasid: number): Int32Array {
    const at = this.entryOf(pasid);
    const words = new Int32Array(PASID_ENTRY.words);
    for (let i = 0; i < words.length; i++) words[i] = this.unit.memory.load32(at + i * 4);
    return words;
  }

  /** Not present, and faults of the PASID are not recorded: what `clearPresent` and `erase` leave after an exit. */
  isSilent(pasid: number): boolean {
    const words = this.read(pasid);
    return !PASID_ENTRY.P.decode(words) && PASID_ENTRY.FPD.decode(words);
  }

  /** Writes an entry, P last. @throws IommuError EBUSY a translation is set up for the PASID already */
  async create(pasid: number, words: Int32Array): Promise<void> {
    if (PASID_ENTRY.P.decode(this.read(pasid)))
      throw new IommuError("EBUSY", `PASID ${pasid} of ${this.#owner} is in use`);
    const at = this.entryOf(pasid);
    for (let quad = ENTRY_QUADS - 1; quad >= 0; quad--) {
      this.#store(at, quad, words);
      const turn = this.unit.scheduler.point("PASID table entry written");
      if (turn) await turn;
    }
  }

  /** Replaces the quad-word with P, AW, PGTT and SSADE in one store: what may change under a live entry. */
  updateFirst(pasid: number, words: Int32Array): void {
    this.#store(this.entryOf(pasid), 0, words);
  }

  /** Takes P off with one store. @param ignoreFaults leaves FPD behind: what still comes is refused without a record (C10) */
  async clearPresent(pasid: number, ignoreFaults: boolean): Promise<void> {
    const words = this.read(pasid);
    if (this.unit.variants.has("L-7")) return this.erase(pasid, ignoreFaults);
    PASID_ENTRY.P.set(words, 0, 0);
    PASID_ENTRY.FPD.set(words, 0, ignoreFaults ? 1 : 0);
    this.#store(this.entryOf(pasid), 0, words);
    const turn = this.unit.scheduler.point("PASID table entry not present");
    if (turn) await turn;
  }

  /** Zeroes an entry that no cache holds. */
  async erase(pasid: number, ignoreFaults: boolean): Promise<void> {
    const words = PASID_ENTRY.encode({ FPD: ignoreFaults });
    const at = this.entryOf(pasid);
    for (let quad = 0; quad < ENTRY_QUADS; quad++) {
      this.#store(at, quad, words);
      const turn = this.unit.scheduler.point("PASID table entry zeroed");
      if (turn) await turn;
    }
  }

  #store(at: number, quad: number, words: Int32Array): void {
    storeEntry(this.unit, PASID_ENTRY.name, at + quad * 8, words[quad * 2 + 1], words[quad * 2]);
  }

  free(): void {
    for (const table of this.#tables.values()) this.unit.pages.free(table);
    this.#tables.clear();
    this.unit.pages.free(this.directory);
  }
}
