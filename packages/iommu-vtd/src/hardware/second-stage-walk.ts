/**
 * Second-stage walk (VT-d 3.7, 9.8): from a guest address to a host address, with paging-structure cache, reserved bits,
 * permissions and accessed and dirty bits. Left out: extended memory types, and permission bits apart for devices (SSIRWE).
 */
import { join64, type PhysicalMemory, physical, type Tracer } from "@iommukit/core";
import { LegacyFault, ScalableFault } from "../spec/faults.js";
import { SECOND_STAGE_ENTRY as SS } from "../spec/page-table.js";
import { beyond } from "./address-bits.js";
import type { Capabilities } from "./capabilities.js";
import type { TranslationEntry } from "./config-entries.js";
import { inputBits } from "./pasid-tables.js";
import { inInterruptRange } from "./request.js";
import { PagingStructureCache, pageMask } from "./translation-cache.js";

/** Permissions of a second-stage translation, as the entries have them. */
export const SsRight = { R: SS.R.lowMask, W: SS.W.lowMask, X: SS.X.lowMask } as const;
const READ_WRITE = SsRight.R | SsRight.W;
const ALL = READ_WRITE | SsRight.X;
/** How often an entry that changes under a bit update is read again. */
const RETRIES = 8;

const PS = SS.PS.lowMask;
const A = SS.A.lowMask;
const D = SS.D.lowMask;
const SNP = SS.SNP.lowMask;
const ADDR_LO = SS.ADDR.lowMask;
const ADDR_HI = SS.ADDR.highMask;

const LEGACY = {
  access: LegacyFault.PAGING_ENTRY_ACCESS.code,
  rootAccess: LegacyFault.CONTEXT_INVALID.code,
  reserved: LegacyFault.PAGING_ENTRY_RESERVED.code,
  beyond: LegacyFault.BEYOND_MGAW.code,
  interruptAddress: LegacyFault.INTERRUPT_ADDRESS.code,
  /** No code of its own: the lack of permission is reported. */
  denied: 0,
} as const;

const SCALABLE = {
  access: ScalableFault.SECOND_STAGE_ACCESS.code,
  rootAccess: ScalableFault.SECOND_STAGE_ROOT_ACCESS.code,
  reserved: ScalableFault.SECOND_STAGE_RESERVED.code,
  beyond: ScalableFault.BEYOND_SECOND_STAGE.code,
  interruptAddress: ScalableFault.INTERRUPT_ADDRESS.code,
  denied: ScalableFault.SECOND_STAGE_DENIED.code,
} as const;

export class SecondStageWalk {
  readonly cache: PagingStructureCache;
  /** The last walk's answer. */
  hi = 0;
  lo = 0;
  /** log2 of the page. */
  shift = 12;
  rights = 0;
  snoop = false;
  /** The leaf is marked dirty, or need not be. */
  dirty = false;
  readonly #reservedHi: number;
  readonly #tableReservedLo: Int32Array;
  readonly #leafReservedLo: Int32Array;

  constructor(
    private readonly unit: string,
    private readonly caps: Capabilities,
    private readonly memory: PhysicalMemory,
    private readonly trace: Tracer,
  ) {
    this.cache = new PagingStructureCache(caps.preset.caches.pagingStructure);
    const { cap, ecap, haw } = caps;
    // 3.7: bits 51:HAW, and bit 62, which only exists with SSIRWS.
    this.#reservedHi = (ADDR_HI & (haw >= 52 ? 0 : -1 << (haw - 32))) | (1 << 30);
    const snp = ecap.SC ? 0 : SNP;
    const large = cap.SSLPS;
    // By level 1 … 5. SNP is reserved above the leaf; PS where no large page can be.
    this.#tableReservedLo = new Int32Array([0, 0, SNP, SNP, SNP | PS, SNP | PS]);
    this.#leafReservedLo = new Int32Array([
      0,
      snp,
      (large & 1 ? snp : PS) | (0x1f_f000 & ADDR_LO),
      (large & 2 ? snp : PS) | (0x3fff_f000 & ADDR_LO),
      0,
      0,
    ]);
  }

  /**
   * @param need rights (SsRight) that the access needs; an accessed bit at the leaf and the dirty bit are set only when they are granted
   * @param dirty the access writes
   * @returns fault reason, 0 when there is a translation; `rights` may still lack what was needed
   */
  walk(entry: TranslationEntry, scalable: boolean, hi: number, lo: number, need: number, dirty: boolean): number {
    const codes = scalable ? SCALABLE : LEGACY;
    // Bits that make an entry present: without SSEE, X is ignored, and what can be read can be executed (9.8).
    const counts = entry.ssee ? ALL : READ_WRITE;
    if (beyond(hi, inputBits(entry, this.caps))) return codes.beyond;
    const top = entry.ssLevels;
    let level = top;
    let tableHi = entry.ssHi;
    let tableLo = entry.ssLo;
    let rights = ALL;
    for (let cached = 2; cached <= top; cached++) {
      const slot = this.cache.find(entry.did, -1, cached, hi, lo);
      if (slot < 0) continue;
      level = cached - 1;
      tableHi = this.cache.tableHi(slot);
      tableLo = this.cache.tableLo(slot);
      rights = this.cache.rights(slot);
      break;
    }
    const { memory } = this;
    for (let tries = 0; ; ) {
      const shift = 3 + 9 * level;
      const index = (shift >= 32 ? hi >> (shift - 32) : (lo >>> shift) | (hi << (32 - shift))) & 0x1ff;
      const entryLo = tableLo | (index << 3);
      const words = memory.view(tableHi, entryLo, 2);
      if (words === null) return level === top ? codes.rootAccess : codes.access;
      const low = words[memory.viewAt];
      const high = words[memory.viewAt + 1];
      if (this.trace.enabled)
        this.trace.emit("table:read", {
          unit: this.unit,
          table: `SS L${level}`,
          index,
          address: physical(tableHi, entryLo),
          value: join64(high, low),
        });
      const leaf = level === 1 || ((low & PS) !== 0 && level <= 3);
      if ((low & counts) === 0) {
        if (scalable) return codes.denied;
        this.#answer(0, 0, shift, 0, false, true);
        return 0;
      }
      if ((high & this.#reservedHi) !== 0 || (low & (leaf ? this.#leafReservedLo : this.#tableReservedLo)[level]) !== 0)
        return codes.reserved;
      const allowed = rights & low;
      if (scalable && (allowed & counts) === 0) return codes.denied;
      const nextHi = high & ADDR_HI;
      const nextLo = low & ADDR_LO;
      const mask = leaf ? pageMask(shift) : 0;
      const outLo = (nextLo & ~mask) | (lo & mask);
      if (leaf && inInterruptRange(nextHi, outLo)) return codes.interruptAddress;
      // A and D (3.7.2).
      const granted = entry.ssee ? allowed : (allowed & READ_WRITE) | ((allowed & SsRight.R) !== 0 ? SsRight.X : 0);
      const permitted = (need & ~granted) === 0;
      let bits = 0;
      if (entry.ssade && (!leaf || permitted)) {
        if ((low & A) === 0) bits = A;
        if (leaf && dirty && (allowed & SsRight.W) !== 0 && (low & D) === 0) bits |= D;
      }
      if (bits !== 0) {
        if (!entry.coherent) return ScalableFault.SECOND_STAGE_UPDATE_NO_SNOOP.code;
        if (!memory.compareExchange64(physical(tableHi, entryLo), high, low, high, low | bits)) {
          if (++tries > RETRIES) return ScalableFault.SECOND_STAGE_UPDATE_FAILED.code;
          continue;
        }
        if (this.trace.enabled)
          this.trace.emit("table:updated", {
            unit: this.unit,
            table: `SS L${level}`,
            address: physical(tableHi, entryLo),
            value: join64(high, low | bits),
          });
      }
      if (leaf) {
        this.#answer(nextHi, outLo, shift, granted, (low & SNP) !== 0, !entry.ssade || ((low | bits) & D) !== 0);
        return 0;
      }
      rights = allowed;
      this.cache.fill(entry.did, -1, level, hi, lo, nextHi, nextLo, rights);
      tableHi = nextHi;
      tableLo = nextLo;
      level--;
      tries = 0;
    }
  }

  #answer(hi: number, lo: number, shift: number, rights: number, snoop: boolean, dirty: boolean): void {
    this.hi = hi;
    this.lo = lo;
    this.shift = shift;
    this.rights = rights;
    this.snoop = snoop;
    this.dirty = dirty;
  }
}
