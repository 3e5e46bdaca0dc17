/**
 * The last answer for a source-id and a PASID, with what the common walk needs of it worked out. On a unit without
 * configuration caches every entry on the way is still read for each request, and the answer counts while no word of them has
 * changed: decoding them again would give the same. The upper tables are those of levels 4 and 3.
 */
import { type PhysicalMemory, type RecentAnswer, UpperTables } from "@iommukit/core";
import { FIRST_STAGE_ENTRY as FS } from "../spec/page-table.js";
import { PASID_ENTRY, Pgtt } from "../spec/pasid-table.js";
import type { TranslationEntry } from "./config-entries.js";
import { rightsAt } from "./first-stage-rights.js";
import { KeptEntries } from "./kept-entries.js";

/** What the whole way has to do for the entry: another number of levels, extended accessed bits. */
const UNCOMMON = PASID_ENTRY.FSPM.lowMask | PASID_ENTRY.EAFE.lowMask;
/** Of an entry: it is there and leads to a table, and the walk has been noted in it. */
const TABLE = FS.P.lowMask | FS.A.lowMask;
const FORMAT = { mask: TABLE | FS.PS.lowMask, table: TABLE, addressHi: FS.ADDR.highMask };

export class FoundConfig extends UpperTables implements RecentAnswer {
  sid = -1;
  given = false;
  pasid = -1;
  /** 1 on a unit without configuration caches. */
  uncached = 0;
  readonly kept = new KeptEntries();
  /** 0 when the common walk may be tried; the fields below are set only then. */
  uncommon = 1;
  did = 0;
  /** Where the table of `first-stage-rights.ts` has those of the entry. */
  rightsAt = 0;
  /** The last index there, and what it held. */
  rightsIndex = -1;
  rights = 0;

  constructor() {
    super(FORMAT);
  }

  /** Nothing has been found, or nothing that can be used. */
  refuse(): void {
    this.sid = -1;
    this.uncached = 0;
    this.uncommon = 1;
  }

  set(entry: TranslationEntry, memory: PhysicalMemory): void {
    const { fsHi, fsLo } = entry;
    const common = entry.pgtt === Pgtt.FIRST_STAGE && (entry.word4 & UNCOMMON) === 0;
    const window = common ? (memory.window?.(fsHi, fsLo) ?? null) : null;
    if (window === null) return;
    this.uncommon = 0;
    this.did = entry.did;
    this.rightsAt = rightsAt(entry);
    this.rightsIndex = -1;
    this.begin(window, fsLo, 2);
  }

  /** The answer counts for the next request as well. */
  remember(sid: number, pasid: number): void {
    this.sid = sid;
    this.pasid = pasid;
  }
}
