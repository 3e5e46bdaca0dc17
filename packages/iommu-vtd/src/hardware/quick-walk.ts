/**
 * The common walk and nothing else: the first stage alone, for a user's read or write, down to a 4 KiB page in whose entries
 * no bit is missing; from the paging-structure cache where there is one. For whatever is different, and for every
 * fault, it answers false, and `TableWalk` takes the walk from the start.
 */
import { Access, type PhysicalMemory } from "@iommukit/core";
import { FIRST_STAGE_ENTRY as FS } from "../spec/page-table.js";
import { Pgtt } from "../spec/pasid-table.js";
import type { TranslationEntry } from "./config-entries.js";
import { inInterruptRange } from "./request.js";
import { Right } from "./rights.js";
import { FIRST_STAGE_ALL, firstStageRights, type TableWalk, withEntry } from "./table-walk.js";
import type { PagingStructureCache } from "./translation-cache.js";

const PRESENT = FS.P.lowMask | FS.A.lowMask;
const D = FS.D.lowMask;
const PS = FS.PS.lowMask;
const ADDR_LO = FS.ADDR.lowMask;
const ADDR_HI = FS.ADDR.highMask;
const { WRITE } = Access;
const { DIRTY } = Right;
const { FIRST_STAGE } = Pgtt;

export class QuickWalk {
  /** Page and Right bits. */
  hi = 0;
  lo = 0;
  rights = 0;

  readonly #cache: PagingStructureCache;

  constructor(
    private readonly walk: TableWalk,
    private readonly memory: PhysicalMemory,
  ) {
    this.#cache = walk.firstStageCache;
  }

  /** @returns whether the fields have the page, and it permits the access */
  page(entry: TranslationEntry, pasid: number, hi: number, lo: number, access: number): boolean {
    const { memory } = this;
    const { reservedHi } = this.walk;
    let level = entry.fsLevels;
    if (entry.pgtt !== FIRST_STAGE || entry.eafe || hi >>> (level === 5 ? 24 : 15) !== 0) return false;
    let tableHi = entry.fsHi;
    let tableLo = entry.fsLo;
    let rights = FIRST_STAGE_ALL;
    if (this.#cache.tags.capacity !== 0) {
      const slot = this.#cache.find(entry.did, pasid, 2, hi, lo);
      if (slot < 0) return false;
      tableHi = this.#cache.tableHi(slot);
      tableLo = this.#cache.tableLo(slot);
      rights = this.#cache.rights(slot);
      level = 1;
    }
    // What every entry has of low bits, and any of high ones.
    let every = -1;
    let any = 0;
    for (;;) {
      const shift = 3 + 9 * level;
      const index = (shift >= 32 ? hi >> (shift - 32) : (lo >>> shift) | (hi << (32 - shift))) & 0x1ff;
      const words = memory.view(tableHi, tableLo | (index << 3), 2);
      if (words === null) return false;
      const low = words[memory.viewAt];
      const high = words[memory.viewAt + 1];
      if (((~low & PRESENT) | (high & reservedHi)) !== 0) return false;
      every &= low;
      any |= high;
      tableHi = high & ADDR_HI;
      tableLo = low & ADDR_LO;
      if (level === 1) return this.#leaf(entry, withEntry(entry, rights, every, any), low, tableHi, tableLo, access);
      if ((low & PS) !== 0) return false;
      level--;
    }
  }

  #leaf(entry: TranslationEntry, rights: number, low: number, hi: number, lo: number, access: number): boolean {
    const dirty = (low & D) !== 0;
    if (inInterruptRange(hi, lo) || ((access & WRITE) !== 0 && !dirty)) return false;
    this.hi = hi;
    this.lo = lo;
    this.rights = firstStageRights(entry, rights) & (dirty ? -1 : ~DIRTY);
    return (access & ~this.rights) === 0;
  }
}
