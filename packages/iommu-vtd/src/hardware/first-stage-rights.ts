/**
 * Rights of a 4 KiB first-stage page as a table: by the enables of the PASID table entry, and by what the entries on the way
 * have in common. Made of the functions that the whole walk uses.
 */
import { FIRST_STAGE_ENTRY as FS } from "../spec/page-table.js";
import { PASID_ENTRY } from "../spec/pasid-table.js";
import { TranslationEntry } from "./config-entries.js";
import { Right, withAllowed } from "./rights.js";
import { enables, FIRST_STAGE_ALL, firstStageRights, withEntry } from "./table-walk.js";

/** Bits of the PASID table entry's word 4 that decide on rights; PGSNP is put above them. */
const ENABLES = PASID_ENTRY.EAFE.lowMask - 1;
const SNOOPED = ENABLES + 1;

/** Index bits of a page: R/W and U/S in all of its entries, XD in any, D in its own. */
export const PAGE_BITS = 4;
const XD_INDEX = 4;
const D_INDEX = 8;

/** `withAllowed`. */
export const PAGE_RIGHTS = new Int32Array((SNOOPED << 1) << PAGE_BITS);

/** Index of the entry's first. */
export function rightsAt(entry: TranslationEntry): number {
  return ((entry.word4 & ENABLES) | (entry.pgsnp ? SNOOPED : 0)) << PAGE_BITS;
}

function fill(entry: TranslationEntry): void {
  for (let page = 0; page < 1 << PAGE_BITS; page++) {
    const high = (page & XD_INDEX) !== 0 ? FS.XD.lowMask : 0;
    const first = withEntry(entry, FIRST_STAGE_ALL, page << FS.RW.shift, high);
    const dirty = (page & D_INDEX) !== 0;
    const rights = (firstStageRights(entry, first) | enables(entry)) & (dirty ? -1 : ~Right.DIRTY);
    PAGE_RIGHTS[rightsAt(entry) + page] = withAllowed(rights);
  }
}

const entry = new TranslationEntry();
for (const snoop of [0, PASID_ENTRY.PGSNP.lowMask]) {
  entry.word2 = snoop;
  for (entry.word4 = 0; entry.word4 <= ENABLES; entry.word4++) fill(entry);
}
