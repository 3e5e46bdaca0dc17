/**
 * Stage 1, alone or nested in stage 2 (VMSAv8-64, Arm ARM D8; order of faults 7.3.22, flag updates 3.13). In a nested
 * stream every table is found through stage 2 and so is the output. Results stand in the object's fields.
 */
import { EVENT, EVENT_CLASS } from "../spec/events.js";
import { byteReversed, exceeds, highMaskFrom, lowMaskFrom, shiftRight } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";
import type { ContextConfig } from "./context-config.js";
import * as bits from "./descriptor-bits.js";
import { updateDescriptor } from "./descriptor-update.js";
import { panForbids, stage1Perms } from "./stage1-permissions.js";
import { contiguousShift, type Stage2Walk } from "./stage2-walk.js";
import type { StreamConfig } from "./stream-config.js";
import { ENTRY, PERM, TLB_KIND } from "./tlb-entry.js";
import type { TranslationCache } from "./translation-cache.js";
import { blockAllowed, contiguousEntries, levelShift, type WalkConfig } from "./walk-config.js";

// Constants of this module fold into the walk's code; imported ones are loaded each time.
const {
  ADDRESS_HI,
  AF,
  APTABLE_READ_ONLY_HI,
  AP_READ_ONLY,
  CONTIGUOUS_HI,
  DBM_HI,
  HIERARCHICAL_HI,
  NG,
  TYPE_TABLE,
  TYPE_VALID,
} = bits;
const { UW, PR, PW } = PERM;
const { F_TRANSLATION } = EVENT;
const { VA } = TLB_KIND;

/** What the trace calls the tables. */
const LEVELS = ["S1 L0", "S1 L1", "S1 L2", "S1 L3"];

export class TableWalk {
  /** Final output page, cut to `shift`. */
  hi = 0;
  lo = 0;
  shift = 12;
  /** Stage 1 PERM bits, stage 2's eight higher, S1_CLEAN and S2_CLEAN. */
  perms = 0;
  /** Output of stage 1, cut to `stage1Shift`. */
  ipaHi = 0;
  ipaLo = 0;
  stage1Shift = 12;
  #level = 3;
  #global = false;

  constructor(
    private readonly chip: ChipContext,
    private readonly tlb: TranslationCache,
    private readonly walks: TranslationCache,
    private readonly stage2: Stage2Walk,
  ) {}

  /**
   * Walks for a virtual address that lies in `table`'s range. `need` must be permitted or F_PERMISSION follows; `want` decides
   * about dirty state. A request that may be content with less (ATS) has need = 0.
   * @returns 0, or the event number with `fault` filled
   */
  walk(
    stream: StreamConfig,
    context: ContextConfig,
    table: WalkConfig,
    hi: number,
    lo: number,
    need: number,
    want: number,
  ): number {
    const event = this.#stage1(stream, context, table, hi, lo, need, want);
    if (event !== 0) return event;
    let granted = want & this.perms;
    if (panForbids(context, granted, this.perms)) granted &= ~(PR | PW);
    if (!stream.s2) {
      this.hi = this.ipaHi;
      this.lo = this.ipaLo;
      this.shift = this.stage1Shift;
    } else if (granted !== 0) {
      const offsetHi = hi & ~highMaskFrom(this.stage1Shift);
      const offsetLo = lo & ~lowMaskFrom(this.stage1Shift);
      const { stage2 } = this;
      const failed = stage2.translate(
        stream,
        this.ipaHi | offsetHi,
        this.ipaLo | offsetLo,
        need,
        granted,
        EVENT_CLASS.IN,
      );
      if (failed !== 0) return failed;
      this.#combine(hi, lo);
    } else {
      // Nothing is granted at stage 1: the IPA is not translated (3.9.1.2).
      return 0;
    }
    if (this.tlb.entries > 0) this.#keep(stream, context, table.granule, hi, lo);
    return 0;
  }

  /** The smaller of both stages' pages, as an output address. */
  #combine(hi: number, lo: number): void {
    const { stage2 } = this;
    this.shift = Math.min(this.stage1Shift, stage2.shift);
    // Bits between the smaller and the larger page come from the side that has them as an offset.
    const ipaHi = this.ipaHi | (hi & ~highMaskFrom(this.stage1Shift));
    const ipaLo = this.ipaLo | (lo & ~lowMaskFrom(this.stage1Shift));
    this.hi = (stage2.hi | (ipaHi & ~highMaskFrom(stage2.shift))) & highMaskFrom(this.shift);
    this.lo = (stage2.lo | (ipaLo & ~lowMaskFrom(stage2.shift))) & lowMaskFrom(this.shift);
    this.perms |= (stage2.perms & PERM.ALL) << PERM.STAGE2;
    this.perms |= stage2.perms & PERM.S2_CLEAN;
  }

  #stage1(
    stream: StreamConfig,
    context: ContextConfig,
    table: WalkConfig,
    hi: number,
    lo: number,
    need: number,
    want: number,
  ): number {
    const { fault, features, ports } = this.chip;
    const { memory } = ports;
    const { granule, outputBits } = table;
    const stride = granule - 3;
    const granuleMask = -1 << granule;
    if (table.disabled) return fault.stage1(F_TRANSLATION);
    let level = table.startLevel;
    let tableHi = table.tableHi;
    let tableLo = table.tableLo;
    let shift = levelShift(granule, level);
    let indexMask = (1 << (table.bits - shift)) - 1;
    let hierarchy = 0;
    const cached = this.walks.lookup(VA, stream.world, context.asid, context.aset, stream.vmid, hi, lo);
    if (cached >= 0) {
      tableHi = this.walks.words[cached + ENTRY.OUT_HI];
      tableLo = this.walks.words[cached + ENTRY.OUT_LO];
      hierarchy = this.walks.words[cached + ENTRY.PERMS];
      level = this.walks.levelOf(cached) + 1;
      shift = levelShift(granule, level);
      indexMask = (1 << stride) - 1;
    }
    for (;;) {
      const index = shiftRight(hi, lo, shift) & indexMask;
      let atHi = tableHi;
      let atLo = tableLo | (index << 3);
      if (stream.s2) {
        const failed = this.#tableThroughStage2(stream, atHi, atLo);
        if (failed !== 0) return failed;
        const { stage2 } = this;
        const offsetMask = ~highMaskFrom(stage2.shift);
        atHi = stage2.hi | (atHi & offsetMask);
        atLo = stage2.lo | (atLo & ~lowMaskFrom(stage2.shift));
      }
      const words = memory.view(atHi, atLo, 2);
      if (words === null) {
        fault.stage1(EVENT.F_WALK_EABT);
        fault.cls = EVENT_CLASS.TT;
        return fault.fetch(EVENT.F_WALK_EABT, atHi, atLo);
      }
      let dLo = words[memory.viewAt];
      let dHi = words[memory.viewAt + 1];
      if (table.bigEndian) {
        dLo = byteReversed(words[memory.viewAt + 1]);
        dHi = byteReversed(words[memory.viewAt]);
      }
      if (this.chip.reads.wanted) this.chip.tableRead(LEVELS[level], index, atHi, atLo, words, memory.viewAt);
      if ((dLo & TYPE_VALID) === 0) return fault.stage1(F_TRANSLATION);
      const isTable = (dLo & TYPE_TABLE) === TYPE_TABLE;
      let outHi = dHi & ADDRESS_HI;
      const outLo = dLo & granuleMask;
      if (table.wide) outHi |= ((dLo >>> 12) & 0xf) << 16;
      if (isTable && level < 3) {
        if (exceeds(outHi, outLo, outputBits)) return fault.stage1(EVENT.F_ADDR_SIZE);
        if (!table.had) hierarchy |= dHi & HIERARCHICAL_HI;
        if (this.walks.entries > 0) {
          this.#keepTable(stream, context, granule, hi, lo, shift, level, outHi, outLo, hierarchy);
        }
        tableHi = outHi;
        tableLo = outLo;
        indexMask = (1 << stride) - 1;
        shift -= stride;
        level++;
        continue;
      }
      if (isTable !== (level === 3) || (level < 3 && !blockAllowed(granule, level, features.oasBits))) {
        return fault.stage1(F_TRANSLATION);
      }
      const blockHi = outHi & highMaskFrom(shift);
      const blockLo = outLo & lowMaskFrom(shift);
      if (exceeds(blockHi, blockLo, table.outputBits)) return fault.stage1(EVENT.F_ADDR_SIZE);
      if ((dLo & AF) === 0 && !context.ha && !context.affd) return fault.stage1(EVENT.F_ACCESS);
      let perms = stage1Perms(dLo, dHi, hierarchy, context);
      const clean =
        context.hd && (dLo & AP_READ_ONLY) !== 0 && (dHi & DBM_HI) !== 0 && (hierarchy & APTABLE_READ_ONLY_HI) === 0;
      let dirties = false;
      if (clean) {
        const writable = stage1Perms(dLo & ~AP_READ_ONLY, dHi, hierarchy, context);
        dirties =
          (want & writable & (UW | PW)) !== 0 && (need & ~writable) === 0 && !panForbids(context, want, writable);
        // What a write would make writable is executed no more than what is (3.13.8).
        perms = dirties ? writable : perms & writable;
      }
      if ((need & ~perms) !== 0 || panForbids(context, need, perms)) return fault.stage1(EVENT.F_PERMISSION);
      const updatedLo = ((context.ha ? dLo | AF : dLo) & ~(dirties ? AP_READ_ONLY : 0)) | 0;
      if (updatedLo !== dLo) {
        if (stream.s2) {
          const failed = this.#writeThroughStage2(stream, tableHi, tableLo | (index << 3));
          if (failed !== 0) return failed;
        }
        if (!updateDescriptor(this.chip, LEVELS[level], atHi, atLo, dHi, dLo, updatedLo, table.bigEndian)) continue;
      }
      this.perms = clean && !dirties ? perms | PERM.S1_CLEAN : perms;
      this.#level = level;
      this.#global = !context.single && (dLo & NG) === 0;
      const hint = (dHi & CONTIGUOUS_HI) !== 0 && this.chip.preset.caches.contiguousHint;
      const whole = hint ? contiguousShift(shift, contiguousEntries(granule, level), hi, lo, blockHi, blockLo) : shift;
      this.stage1Shift = whole;
      this.ipaHi = blockHi & highMaskFrom(whole);
      this.ipaLo = blockLo & lowMaskFrom(whole);
      return 0;
    }
  }

  #tableThroughStage2(stream: StreamConfig, hi: number, lo: number): number {
    const failed = this.stage2.translate(stream, hi, lo, PR, PR, EVENT_CLASS.TT);
    if (failed !== 0) return failed;
    if (!stream.s2Ptw || (this.stage2.perms & PERM.S2_DEVICE) === 0) return 0;
    return this.chip.fault.stage2(EVENT.F_PERMISSION, EVENT_CLASS.TT, hi, lo);
  }

  /** A flag update is a write: stage 2 must permit it (3.13.5). */
  #writeThroughStage2(stream: StreamConfig, hi: number, lo: number): number {
    const failed = this.stage2.translate(stream, hi, lo, PW, PW, EVENT_CLASS.TT);
    if (failed !== 0) this.chip.fault.ttRnW = 0;
    return failed;
  }

  #keepTable(
    stream: StreamConfig,
    context: ContextConfig,
    granule: number,
    hi: number,
    lo: number,
    shift: number,
    level: number,
    nextHi: number,
    nextLo: number,
    hierarchy: number,
  ): void {
    const { asid, aset } = context;
    const at = this.walks.insert(
      VA,
      stream.world,
      asid,
      aset,
      stream.vmid,
      false,
      hi,
      lo,
      shift,
      level,
      granule,
      shift,
    );
    if (at < 0) return;
    this.walks.words[at + ENTRY.OUT_LO] = nextLo;
    this.walks.words[at + ENTRY.OUT_HI] = nextHi;
    this.walks.words[at + ENTRY.PERMS] = hierarchy;
  }

  #keep(stream: StreamConfig, context: ContextConfig, granule: number, hi: number, lo: number): void {
    const { asid, aset } = context;
    const at = this.tlb.insert(
      VA,
      stream.world,
      asid,
      aset,
      stream.vmid,
      this.#global,
      hi,
      lo,
      this.shift,
      this.#level,
      granule,
      this.stage1Shift,
    );
    if (at < 0) return;
    const words = this.tlb.words;
    const offsetHi = hi & ~highMaskFrom(this.stage1Shift) & highMaskFrom(this.shift);
    const offsetLo = lo & ~lowMaskFrom(this.stage1Shift) & lowMaskFrom(this.shift);
    words[at + ENTRY.OUT_LO] = this.lo;
    words[at + ENTRY.OUT_HI] = this.hi;
    words[at + ENTRY.PERMS] = this.perms;
    words[at + ENTRY.IPA_LO] = this.ipaLo | offsetLo;
    words[at + ENTRY.IPA_HI] = this.ipaHi | offsetHi;
  }
}
