/**
 * Translation through the tables that a TranslationEntry names (VT-d 3.6 to 3.9): first stage, second stage, both nested, or
 * none. One walker per unit; its fields hold the last answer.
 */
import { Access, join64, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { LegacyFault, ScalableFault } from "../spec/faults.js";
import { FIRST_STAGE_ENTRY as FS } from "../spec/page-table.js";
import { Pgtt } from "../spec/pasid-table.js";
import { beyond } from "./address-bits.js";
import type { Capabilities } from "./capabilities.js";
import type { TranslationEntry } from "./config-entries.js";
import { inputBits } from "./pasid-tables.js";
import { AddressType, inInterruptRange, type Request } from "./request.js";
import { EXEC, granted, permsOf, READ, Right, WRITE } from "./rights.js";
import { SecondStageWalk, SsRight } from "./second-stage-walk.js";
import { PagingStructureCache, pageMask, pageShift } from "./translation-cache.js";

const P = FS.P.lowMask;
const RW = FS.RW.lowMask;
const US = FS.US.lowMask;
const A = FS.A.lowMask;
const D = FS.D.lowMask;
const PS = FS.PS.lowMask;
const EA = FS.EA.lowMask;
const ADDR_LO = FS.ADDR.lowMask;
const ADDR_HI = FS.ADDR.highMask;
const XD = FS.XD.lowMask;
const RETRIES = 8;

/** First-stage permissions so far: RW and US as in an entry, and bits of ours that no entry has there. */
export const NOT_EXECUTE_DISABLED = 1 << 30;
const NOT_XD = NOT_EXECUTE_DISABLED;
/** Nested: the second stage lets the table be written, so that accessed bits can be set in it. */
const TABLE_WRITABLE = 1 << 29;
export const FIRST_STAGE_ALL = RW | US | NOT_XD | TABLE_WRITABLE;

export class TableWalk {
  readonly firstStageCache: PagingStructureCache;
  readonly secondStage: SecondStageWalk;
  /** The last walk's answer. */
  hi = 0;
  lo = 0;
  /** log2 of the page: 12, 21 or 30. */
  shift = 12;
  /** Right bits. */
  rights = 0;
  /** Reserved bits in the high word of every first-stage entry. */
  readonly reservedHi: number;
  readonly #tableReservedLo: Int32Array;
  readonly #leafReservedLo: Int32Array;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    this.firstStageCache = new PagingStructureCache(caps.preset.caches.pagingStructure);
    this.secondStage = new SecondStageWalk(unit, caps, memory, trace);
    // 3.6: bits 51:HAW; PS where no large page can be; address bits below the page, but bit 12 (PAT).
    this.reservedHi = ADDR_HI & (caps.haw >= 52 ? 0 : -1 << (caps.haw - 32));
    this.#tableReservedLo = new Int32Array([0, 0, 0, 0, PS, PS]);
    this.#leafReservedLo = new Int32Array([0, 0, 0x1f_e000, (caps.cap.FS1GP ? 0 : PS) | 0x3fff_e000, 0, 0]);
  }

  /** @returns fault reason; 0 when there is a translation, whose rights may still lack what the request needs */
  walk(entry: TranslationEntry, request: Request, scalable: boolean): number {
    if (entry.pgtt === Pgtt.PASS_THROUGH) return this.#passThrough(entry, request, scalable);
    if (entry.pgtt === Pgtt.SECOND_STAGE) return this.#secondStageOnly(entry, request, scalable);
    return this.#firstStage(entry, request);
  }

  /**
   * What the second stage has to grant: Access bits, which are those of SsRight. A translation request gets what there is; a
   * zero-length read does not need the right to read with CAP.ZLR (3.14).
   */
  #need(request: Request): number {
    const flush = this.caps.cap.ZLR && (request.access & Access.ZERO_LENGTH) !== 0;
    return flush || request.type === AddressType.TRANSLATION_REQUEST
      ? 0
      : request.access & (Access.READ | Access.WRITE | Access.EXEC);
  }

  #passThrough(entry: TranslationEntry, request: Request, scalable: boolean): number {
    if (beyond(request.hi, this.caps.haw))
      return scalable ? ScalableFault.BEYOND_HOST_WIDTH.code : LegacyFault.BEYOND_MGAW.code;
    this.hi = request.hi;
    this.lo = request.lo;
    // As large as possible without a range that would not be memory.
    this.shift = request.hi !== 0 || request.lo >>> 30 !== 3 ? 30 : request.lo >>> 21 !== 0xfee0_0000 >>> 21 ? 21 : 12;
    this.rights = READ | WRITE | EXEC | Right.USER | Right.DIRTY | (entry.pgsnp ? Right.SNOOP : 0);
    return 0;
  }

  #secondStageOnly(entry: TranslationEntry, request: Request, scalable: boolean): number {
    const ss = this.secondStage;
    const writes = (request.access & Access.WRITE) !== 0;
    const fault = ss.walk(entry, scalable, request.hi, request.lo, this.#need(request), writes);
    if (fault !== 0) return fault;
    this.hi = ss.hi;
    this.lo = ss.lo;
    this.shift = pageShift(ss.shift);
    const own = ss.rights;
    this.rights =
      own | (own << 3) | Right.USER | (ss.dirty ? Right.DIRTY : 0) | (ss.snoop || entry.pgsnp ? Right.SNOOP : 0);
    return 0;
  }

  #firstStage(entry: TranslationEntry, request: Request): number {
    const { hi, lo } = request;
    const nested = entry.pgtt === Pgtt.NESTED;
    const top = entry.fsLevels;
    // SGN.1: bits 63:N equal to bit N-1.
    if (hi >> (top === 5 ? 24 : 15) !== (hi < 0 ? -1 : 0)) return ScalableFault.NOT_CANONICAL.code;
    let level = top;
    let rights = FIRST_STAGE_ALL;
    let tableHi = entry.fsHi;
    let tableLo = entry.fsLo;
    let cached = false;
    for (let at = 2; at <= top && !cached; at++) {
      const slot = this.firstStageCache.find(entry.did, request.effectivePasid, at, hi, lo);
      if (slot < 0) continue;
      level = at - 1;
      tableHi = this.firstStageCache.tableHi(slot);
      tableLo = this.firstStageCache.tableLo(slot);
      rights = this.firstStageCache.rights(slot);
      cached = true;
    }
    if (nested && !cached) {
      const fault = this.#tablePage(entry, tableHi, tableLo, ScalableFault.NESTED_ROOT_READ_DENIED.code);
      if (fault !== 0) return fault;
      tableHi = this.secondStage.hi;
      tableLo = this.secondStage.lo;
      if ((this.secondStage.rights & SsRight.W) === 0) rights &= ~TABLE_WRITABLE;
    }
    const { memory } = this;
    for (let tries = 0; ; ) {
      const shift = 3 + 9 * level;
      const index = (shift >= 32 ? hi >> (shift - 32) : (lo >>> shift) | (hi << (32 - shift))) & 0x1ff;
      const entryLo = tableLo | (index << 3);
      const words = memory.view(tableHi, entryLo, 2);
      if (words === null)
        return level === top ? ScalableFault.FIRST_STAGE_ROOT_ACCESS.code : ScalableFault.FIRST_STAGE_ACCESS.code;
      const low = words[memory.viewAt];
      const high = words[memory.viewAt + 1];
      if (this.trace.enabled)
        this.trace.emit("table:read", {
          unit: this.unit,
          table: `FS L${level}`,
          index,
          address: physical(tableHi, entryLo),
          value: join64(high, low),
        });
      if ((low & P) === 0) return ScalableFault.FIRST_STAGE_NOT_PRESENT.code;
      const leaf = level === 1 || ((low & PS) !== 0 && level <= 3);
      if ((high & this.reservedHi) !== 0 || (low & (leaf ? this.#leafReservedLo : this.#tableReservedLo)[level]) !== 0)
        return ScalableFault.FIRST_STAGE_RESERVED.code;
      let nextHi = high & ADDR_HI;
      let nextLo = low & ADDR_LO;
      if (nested && beyond(nextHi, inputBits(entry, this.caps))) return ScalableFault.NESTED_ENTRY_BEYOND_MGAW.code;
      const before = rights;
      rights = withEntry(entry, rights, low, high);
      if (leaf) {
        const mask = pageMask(shift);
        const fault = this.#page(entry, request, rights, nextHi, (nextLo & ~mask) | (lo & mask), shift);
        if (fault !== 0) return fault;
      }
      // A, EA and D (3.6.2).
      const bits = this.#missingBits(entry, request, low, leaf);
      if (bits !== 0) {
        if (!entry.coherent) return ScalableFault.FIRST_STAGE_UPDATE_NO_SNOOP.code;
        if ((rights & TABLE_WRITABLE) === 0) return ScalableFault.NESTED_ENTRY_WRITE_DENIED.code;
        if (!memory.compareExchange64(physical(tableHi, entryLo), high, low, high, low | bits)) {
          if (++tries > RETRIES) return ScalableFault.FIRST_STAGE_UPDATE_FAILED.code;
          rights = before;
          continue;
        }
        if (this.trace.enabled)
          this.trace.emit("table:updated", {
            unit: this.unit,
            table: `FS L${level}`,
            address: physical(tableHi, entryLo),
            value: join64(high, low | bits),
          });
      }
      if (leaf) {
        if (((low | bits) & D) === 0) this.rights &= ~Right.DIRTY;
        return 0;
      }
      rights |= TABLE_WRITABLE;
      if (nested) {
        const fault = this.#tablePage(entry, nextHi, nextLo, ScalableFault.NESTED_ENTRY_READ_DENIED.code);
        if (fault !== 0) return fault;
        nextHi = this.secondStage.hi;
        nextLo = this.secondStage.lo;
        if ((this.secondStage.rights & SsRight.W) === 0) rights &= ~TABLE_WRITABLE;
      }
      this.firstStageCache.fill(entry.did, request.effectivePasid, level, hi, lo, nextHi, nextLo, rights);
      tableHi = nextHi;
      tableLo = nextLo;
      level--;
      tries = 0;
    }
  }

  /** Accessed and dirty bits that using the entry has to set. At the leaf only when the access goes through. */
  #missingBits(entry: TranslationEntry, request: Request, low: number, leaf: boolean): number {
    const translationRequest = request.type === AddressType.TRANSLATION_REQUEST;
    if (
      leaf &&
      !(translationRequest
        ? permsOf(this.rights, request.supervisor) !== 0
        : granted(this.rights, request, this.caps.cap.ZLR))
    )
      return 0;
    let wanted: number = entry.eafe ? A | EA : A;
    const writes =
      (request.access & Access.WRITE) !== 0 && (permsOf(this.rights, request.supervisor) & Access.WRITE) !== 0;
    if (leaf && writes) wanted |= D;
    return wanted & ~low;
  }

  /** Nested: the host address of a first-stage table. With SSADE that read counts as a write (3.8.1). */
  #tablePage(entry: TranslationEntry, hi: number, lo: number, readDenied: number): number {
    const need = entry.ssade ? SsRight.R | SsRight.W : SsRight.R;
    const fault = this.secondStage.walk(entry, true, hi, lo, need, entry.ssade);
    if (fault !== 0) return fault;
    return (need & ~this.secondStage.rights) === 0 ? 0 : readDenied;
  }

  /** The page that a first-stage leaf names: its rights, and for nested translation its host address. */
  #page(entry: TranslationEntry, request: Request, rights: number, hi: number, lo: number, shift: number): number {
    const out = firstStageRights(entry, rights);
    this.hi = hi;
    this.lo = lo;
    this.shift = shift;
    this.rights = out;
    if (entry.pgtt !== Pgtt.NESTED) return inInterruptRange(hi, lo) ? ScalableFault.INTERRUPT_ADDRESS.code : 0;
    const ss = this.secondStage;
    const writes = (request.access & Access.WRITE) !== 0 && (permsOf(out, request.supervisor) & Access.WRITE) !== 0;
    const fault = ss.walk(entry, true, hi, lo, this.#need(request), writes);
    if (fault !== 0) return fault;
    this.hi = ss.hi;
    this.lo = ss.lo;
    this.shift = pageShift(Math.min(shift, ss.shift));
    this.rights &= ~(
      ((ss.rights & SsRight.R) === 0 ? READ : 0) |
      ((ss.rights & SsRight.W) === 0 ? WRITE : 0) |
      ((ss.rights & SsRight.X) === 0 ? EXEC : 0) |
      (ss.dirty ? 0 : Right.DIRTY)
    );
    if (ss.snoop) this.rights |= Right.SNOOP;
    return 0;
  }
}

/** Rights that the entry gives or withholds for every page. */
export function enables(entry: TranslationEntry): number {
  return (entry.sre ? Right.SRE : 0) | (entry.ere ? Right.ERE : 0);
}

/** First-stage permissions after one more entry (3.6.1). */
export function withEntry(entry: TranslationEntry, rights: number, low: number, high: number): number {
  return rights & ((low & (RW | US)) | (entry.nxe && (high & XD) !== 0 ? 0 : NOT_XD) | TABLE_WRITABLE);
}

/** Right bits of a page with these first-stage permissions. */
export function firstStageRights(entry: TranslationEntry, rights: number): number {
  const writable = (rights & RW) !== 0;
  const executable = entry.ere && (rights & NOT_XD) !== 0;
  const user = (rights & US) !== 0;
  let out = user ? Right.USER | Right.UR | (writable ? Right.UW : 0) | (executable ? Right.UX : 0) : 0;
  if (entry.sre)
    out |= Right.SR | (writable || !entry.wpe ? Right.SW : 0) | (executable && !(entry.smep && user) ? Right.SX : 0);
  return out | Right.DIRTY | (entry.pgsnp ? Right.SNOOP : 0);
}
