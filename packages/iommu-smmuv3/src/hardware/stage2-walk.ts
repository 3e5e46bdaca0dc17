/**
 * Stage 2: intermediate physical address to physical address, through the TLB's IPA entries or the tables of the STE.
 * Order of faults per level as in 7.3.22; AF and dirty state as in 3.13. Results stand in the object's fields.
 */
import { join64 } from "@iommukit/core";
import { EVENT } from "../spec/events.js";
import { byteReversed, exceeds, highMaskFrom, lowMaskFrom, shiftRight } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";
import * as bits from "./descriptor-bits.js";
import { updateDescriptor } from "./descriptor-update.js";
import type { StreamConfig } from "./stream-config.js";
import { WORLD } from "./stream-config.js";
import { ENTRY, PERM, TLB_KIND } from "./tlb-entry.js";
import type { TranslationCache } from "./translation-cache.js";
import { blockAllowed, contiguousEntries, levelShift } from "./walk-config.js";

const READ = PERM.UR | PERM.PR;
const WRITE = PERM.UW | PERM.PW;

/** What the trace calls the tables. */
const LEVELS = ["S2 L0", "S2 L1", "S2 L2", "S2 L3"];

export class Stage2Walk {
  /** Output page, cut to `shift`. */
  hi = 0;
  lo = 0;
  shift = 12;
  level = 3;
  /** PERM bits with S2_CLEAN and S2_DEVICE. */
  perms = 0;

  constructor(
    private readonly chip: ChipContext,
    private readonly tlb: TranslationCache,
    private readonly walks: TranslationCache,
  ) {}

  /**
   * Translates one IPA. `need` must be permitted, `want` decides about dirty state, `cls` is what the access is for.
   * @returns 0, or the event number with `fault` filled
   */
  translate(stream: StreamConfig, hi: number, lo: number, need: number, want: number, cls: number): number {
    const at = this.tlb.lookup(TLB_KIND.IPA, WORLD.NS_EL1, 0, 0, stream.vmid, hi, lo);
    if (this.chip.lookups.wanted) this.#traceLookup(stream, at >= 0, hi, lo);
    if (at < 0) return this.walk(stream, hi, lo, need, want, cls);
    const perms = this.tlb.words[at + ENTRY.PERMS];
    if ((want & WRITE & ~perms) !== 0 && (perms & PERM.S2_CLEAN) !== 0)
      return this.walk(stream, hi, lo, need, want, cls);
    this.hi = this.tlb.words[at + ENTRY.OUT_HI];
    this.lo = this.tlb.words[at + ENTRY.OUT_LO];
    this.shift = this.tlb.shiftOf(at);
    this.level = this.tlb.levelOf(at);
    this.perms = perms;
    return (need & ~perms) === 0 ? 0 : this.chip.fault.stage2Permission(cls, hi, lo, need, perms);
  }

  /** The same, through the tables; a translation without fault enters the TLB. */
  walk(stream: StreamConfig, hi: number, lo: number, need: number, want: number, cls: number): number {
    const { fault, features, ports } = this.chip;
    const table = stream.stage2;
    const { granule } = table;
    const stride = granule - 3;
    if (exceeds(hi, lo, table.bits)) return fault.stage2(EVENT.F_TRANSLATION, cls, hi, lo);
    let level = table.startLevel;
    let tableHi = table.tableHi;
    let tableLo = table.tableLo;
    let indexBits = table.bits - levelShift(granule, level);
    const cached = this.walks.lookup(TLB_KIND.IPA, WORLD.NS_EL1, 0, 0, stream.vmid, hi, lo);
    if (cached >= 0) {
      tableHi = this.walks.words[cached + ENTRY.OUT_HI];
      tableLo = this.walks.words[cached + ENTRY.OUT_LO];
      level = this.walks.levelOf(cached) + 1;
      indexBits = stride;
    }
    for (;;) {
      const shift = levelShift(granule, level);
      const index = shiftRight(hi, lo, shift) & ((1 << indexBits) - 1);
      const descriptorLo = tableLo | (index << 3);
      const words = ports.memory.view(tableHi, descriptorLo, 2);
      if (words === null) return fault.fetch(fault.stage2(EVENT.F_WALK_EABT, cls, hi, lo), tableHi, descriptorLo);
      let dLo = words[ports.memory.viewAt];
      let dHi = words[ports.memory.viewAt + 1];
      if (table.bigEndian) {
        dLo = byteReversed(words[ports.memory.viewAt + 1]);
        dHi = byteReversed(words[ports.memory.viewAt]);
      }
      if (this.chip.reads.wanted)
        this.chip.tableRead(LEVELS[level], index, tableHi, descriptorLo, words, ports.memory.viewAt);
      if ((dLo & bits.TYPE_VALID) === 0) return fault.stage2(EVENT.F_TRANSLATION, cls, hi, lo);
      const isTable = (dLo & bits.TYPE_TABLE) === bits.TYPE_TABLE;
      let outHi = dHi & bits.ADDRESS_HI;
      const outLo = dLo & lowMaskFrom(granule);
      if (table.wide) outHi |= ((dLo >>> 12) & 0xf) << 16;
      if (isTable && level < 3) {
        if (exceeds(outHi, outLo, table.outputBits)) return fault.stage2(EVENT.F_ADDR_SIZE, cls, hi, lo);
        const slot = this.walks.insert(
          TLB_KIND.IPA,
          WORLD.NS_EL1,
          0,
          0,
          stream.vmid,
          false,
          hi,
          lo,
          shift,
          level,
          granule,
          shift,
        );
        if (slot >= 0) {
          this.walks.words[slot + ENTRY.OUT_HI] = outHi;
          this.walks.words[slot + ENTRY.OUT_LO] = outLo;
        }
        tableHi = outHi;
        tableLo = outLo;
        indexBits = stride;
        level++;
        continue;
      }
      if (isTable !== (level === 3) || (level < 3 && !blockAllowed(granule, level, features.oasBits))) {
        return fault.stage2(EVENT.F_TRANSLATION, cls, hi, lo);
      }
      const blockHi = outHi & highMaskFrom(shift);
      const blockLo = outLo & lowMaskFrom(shift);
      if (exceeds(blockHi, blockLo, table.outputBits)) return fault.stage2(EVENT.F_ADDR_SIZE, cls, hi, lo);
      if ((dLo & bits.AF) === 0 && !stream.s2Ha && !stream.s2Affd) return fault.stage2(EVENT.F_ACCESS, cls, hi, lo);
      let perms = stage2Perms(dLo, dHi, features.xnx, stream.s2Fwb);
      const clean = stream.s2Hd && (perms & WRITE) === 0 && (dHi & bits.DBM_HI) !== 0;
      const dirties = clean && (want & WRITE) !== 0;
      if (dirties) perms |= WRITE;
      if ((need & ~perms) !== 0) return fault.stage2Permission(cls, hi, lo, need, perms);
      const updatedLo = dLo | (stream.s2Ha ? bits.AF : 0) | (dirties ? bits.S2AP_WRITE : 0);
      const { bigEndian } = table;
      if (updatedLo !== dLo) {
        if (!updateDescriptor(this.chip, LEVELS[level], tableHi, descriptorLo, dHi, dLo, updatedLo, bigEndian))
          continue;
      }
      this.perms = clean && !dirties ? perms | PERM.S2_CLEAN : perms;
      this.level = level;
      this.#keep(stream, hi, lo, blockHi, blockLo, shift, granule, (dHi & bits.CONTIGUOUS_HI) !== 0);
      return 0;
    }
  }

  #keep(
    stream: StreamConfig,
    hi: number,
    lo: number,
    outHi: number,
    outLo: number,
    blockShift: number,
    granule: number,
    contiguous: boolean,
  ): void {
    let shift = blockShift;
    if (contiguous && this.chip.preset.caches.contiguousHint) {
      shift = contiguousShift(blockShift, contiguousEntries(granule, this.level), hi, lo, outHi, outLo);
    }
    this.shift = shift;
    this.hi = outHi & highMaskFrom(shift);
    this.lo = outLo & lowMaskFrom(shift);
    const at = this.tlb.insert(
      TLB_KIND.IPA,
      WORLD.NS_EL1,
      0,
      0,
      stream.vmid,
      false,
      hi,
      lo,
      shift,
      this.level,
      granule,
      shift,
    );
    if (at < 0) return;
    const words = this.tlb.words;
    words[at + ENTRY.OUT_LO] = this.lo;
    words[at + ENTRY.OUT_HI] = this.hi;
    words[at + ENTRY.PERMS] = this.perms;
    words[at + ENTRY.IPA_LO] = 0;
    words[at + ENTRY.IPA_HI] = 0;
  }

  #traceLookup(stream: StreamConfig, hit: boolean, hi: number, lo: number): void {
    const address = join64(hi, lo);
    const { ports, name } = this.chip;
    ports.trace.emit(hit ? "tlb:hit" : "tlb:missed", { unit: name, cache: "IPA", rid: stream.sid, pasid: -1, address });
  }
}

/**
 * Size of a contiguous set as one entry, or the block alone where its output address is not that of its place in the
 * set: software got the set wrong, and the hint may be ignored.
 */
export function contiguousShift(
  shift: number,
  entries: number,
  hi: number,
  lo: number,
  outHi: number,
  outLo: number,
): number {
  const whole = shift + entries;
  const highMask = ~highMaskFrom(whole) & highMaskFrom(shift);
  const lowMask = ~lowMaskFrom(whole) & lowMaskFrom(shift);
  return ((hi ^ outHi) & highMask) === 0 && ((lo ^ outLo) & lowMask) === 0 ? whole : shift;
}

function stage2Perms(dLo: number, dHi: number, xnx: boolean, fwb: boolean): number {
  let perms = 0;
  if ((dLo & bits.S2AP_READ) !== 0) perms |= READ;
  if ((dLo & bits.S2AP_WRITE) !== 0) perms |= WRITE;
  const never = (dHi & bits.S2XN1_HI) !== 0;
  const split = xnx && (dHi & bits.S2XN0_HI) !== 0;
  if (split) perms |= never ? PERM.PX : PERM.UX;
  else if (!never) perms |= PERM.UX | PERM.PX;
  if ((dLo & (fwb ? bits.S2_MEMATTR_NORMAL_FWB : bits.S2_MEMATTR_NORMAL)) === 0) perms |= PERM.S2_DEVICE;
  return perms;
}
