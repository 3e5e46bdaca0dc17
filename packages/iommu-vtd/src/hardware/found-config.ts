/**
 * The last answer for a source-id and a PASID, with what the common walk needs of it worked out. On a unit without
 * configuration caches every entry on the way is still read for each request, and the answer counts while no word of them has
 * changed: decoding them again would give the same.
 */
import { type PhysicalMemory, WINDOW_MASK } from "@iommukit/core";
import { PASID_ENTRY, Pgtt } from "../spec/pasid-table.js";
import type { TranslationEntry } from "./config-entries.js";
import { rightsAt } from "./first-stage-rights.js";
import { KeptEntries } from "./kept-entries.js";

/** What the whole way has to do for the entry: another number of levels, extended accessed bits. */
const UNCOMMON = PASID_ENTRY.FSPM.lowMask | PASID_ENTRY.EAFE.lowMask;
const NO_WINDOW: Int32Array = new Int32Array(0);

export class FoundConfig {
  sid = -1;
  pasid = -1;
  /** What the count of changes was. */
  changes = -1;
  /** 1 on a unit without configuration caches. */
  uncached = 0;
  readonly kept = new KeptEntries();
  /** 0 when the common walk may be tried; the fields below are set only then. */
  uncommon = 1;
  did = 0;
  /** Where the table of `first-stage-rights.ts` has those of the entry. */
  rightsAt = 0;
  /** MemoryWindow of the root table, and the table's index there. */
  window = NO_WINDOW;
  windowHi = 0;
  windowFirst = 0;
  windowEnd = 0;
  root = 0;

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
    this.window = window.words;
    this.windowHi = window.hi;
    this.windowFirst = window.first;
    this.windowEnd = window.words.length;
    this.root = ((fsLo >>> 2) - window.first) & WINDOW_MASK;
  }

  /** The answer counts for the next request as well. */
  remember(sid: number, pasid: number, changes: number): void {
    this.sid = sid;
    this.pasid = pasid;
    this.changes = changes;
  }
}
