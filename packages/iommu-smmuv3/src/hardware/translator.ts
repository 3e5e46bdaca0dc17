/** One address through the enabled stages: range checks, TLB, walk. Results stand in the object's fields. IHI 0070 3.4, 3.17. */
import { join64, physical } from "@iommukit/core";
import { EVENT, EVENT_CLASS } from "../spec/events.js";
import { exceeds, highMaskFrom, lowMaskFrom } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";
import type { ContextConfig } from "./context-config.js";
import { panForbids } from "./stage1-permissions.js";
import type { Stage2Walk } from "./stage2-walk.js";
import type { StreamConfig } from "./stream-config.js";
import type { TableWalk } from "./table-walk.js";
import { ENTRY, PERM, TLB_KIND } from "./tlb-entry.js";
import type { Transaction } from "./transaction.js";
import type { TranslationCache } from "./translation-cache.js";

/** Bit 55 in the high half: selects TTB1. */
const VA55 = 1 << 23;
const WRITE = PERM.UW | PERM.PW;

export class Translator {
  /** Output page, cut to `shift`. */
  hi = 0;
  lo = 0;
  shift = 12;
  /** PERM bits that all enabled stages permit. */
  perms = 0;
  /** Output of stage 1, cut to `shift`. */
  ipaHi = 0;
  ipaLo = 0;

  constructor(
    private readonly chip: ChipContext,
    private readonly tlb: TranslationCache,
    private readonly walker: TableWalk,
    private readonly stage2: Stage2Walk,
  ) {}

  /**
   * Stage 1, and stage 2 where the stream has it. `need` must be permitted, `want` decides about dirty state.
   * @returns 0, or the event number with `fault` filled
   */
  translate(t: Transaction, stream: StreamConfig, context: ContextConfig, need: number, want: number): number {
    const { fault } = this.chip;
    const { lo } = t;
    const high = (t.hi & VA55) !== 0;
    const table = high ? context.tt1 : context.tt0;
    // Bits 63:56 are those of bit 55 where the top byte is ignored; addresses in range are sign-extended anyway.
    const hi = table.tbi || table.disabled ? (t.hi << 8) >> 8 : t.hi;
    if (!table.disabled && (high ? exceeds(~hi, ~lo, table.bits) : exceeds(hi, lo, table.bits))) {
      return fault.stage1(EVENT.F_TRANSLATION);
    }
    if (table.e0pd && !t.priv) return fault.stage1(EVENT.F_TRANSLATION);
    const at = this.tlb.lookup(TLB_KIND.VA, stream.world, context.asid, context.aset, stream.vmid, hi, lo);
    if (this.chip.lookups.wanted) this.#trace(at >= 0 ? "tlb:hit" : "tlb:missed", t);
    if (at < 0) return this.#walk(t, stream, context, hi, need, want);
    const words = this.tlb.words;
    const perms = words[at + ENTRY.PERMS];
    const first = perms & PERM.ALL;
    const second = stream.s2 ? (perms >>> PERM.STAGE2) & PERM.ALL : PERM.ALL;
    const lacks = want & WRITE & ~(first & second);
    if (lacks !== 0 && (perms & (PERM.S1_CLEAN | PERM.S2_CLEAN)) !== 0)
      return this.#walk(t, stream, context, hi, need, want);
    const shift = this.tlb.shiftOf(at);
    this.hi = words[at + ENTRY.OUT_HI];
    this.lo = words[at + ENTRY.OUT_LO];
    this.shift = shift;
    this.perms = first & second;
    this.ipaHi = words[at + ENTRY.IPA_HI];
    this.ipaLo = words[at + ENTRY.IPA_LO];
    if ((need & ~first) !== 0 || panForbids(context, need, first)) return fault.stage1(EVENT.F_PERMISSION);
    if ((need & ~second) === 0) return 0;
    const ipaHi = this.ipaHi | (hi & ~highMaskFrom(shift));
    const ipaLo = this.ipaLo | (lo & ~lowMaskFrom(shift));
    return fault.stage2Permission(EVENT_CLASS.IN, ipaHi, ipaLo, need, second);
  }

  #walk(t: Transaction, stream: StreamConfig, context: ContextConfig, hi: number, need: number, want: number): number {
    const table = (t.hi & VA55) !== 0 ? context.tt1 : context.tt0;
    const { walker } = this;
    const event = walker.walk(stream, context, table, hi, t.lo, need, want);
    if (event !== 0) return event;
    this.hi = walker.hi;
    this.lo = walker.lo;
    this.shift = walker.shift;
    const second = stream.s2 ? (walker.perms >>> PERM.STAGE2) & PERM.ALL : PERM.ALL;
    this.perms = walker.perms & PERM.ALL & second;
    this.ipaHi = walker.ipaHi | (hi & ~highMaskFrom(walker.stage1Shift) & highMaskFrom(walker.shift));
    this.ipaLo = walker.ipaLo | (t.lo & ~lowMaskFrom(walker.stage1Shift) & lowMaskFrom(walker.shift));
    if (this.chip.lookups.wanted && this.perms !== 0) this.#trace("tlb:filled", t);
    return 0;
  }

  /** Stage 1 is bypassed: the address is an IPA, or already the output. */
  bypassStage1(t: Transaction, stream: StreamConfig, need: number, want: number): number {
    const { fault, features } = this.chip;
    // The IAS equals the OAS: there are no AArch32 tables (3.4).
    if (exceeds(t.hi, t.lo, features.oasBits)) return fault.stage1(EVENT.F_ADDR_SIZE);
    if (!stream.s2) {
      this.shift = features.oasBits;
      this.hi = 0;
      this.lo = 0;
      this.perms = PERM.ALL;
      return 0;
    }
    const { stage2 } = this;
    const event = stage2.translate(stream, t.hi, t.lo, need, want, EVENT_CLASS.IN);
    if (event !== 0) return event;
    this.hi = stage2.hi;
    this.lo = stage2.lo;
    this.shift = stage2.shift;
    this.perms = stage2.perms & PERM.ALL;
    this.ipaHi = t.hi & highMaskFrom(this.shift);
    this.ipaLo = t.lo & lowMaskFrom(this.shift);
    return 0;
  }

  #trace(event: "tlb:hit" | "tlb:missed" | "tlb:filled", t: Transaction): void {
    const { name, ports } = this.chip;
    const unit = name;
    const cache = "TLB";
    const address = join64(t.hi, t.lo);
    if (event === "tlb:filled") {
      const pa = physical(this.hi, this.lo);
      // A power costs more than the rest of the event.
      const size = this.shift < 31 ? 1 << this.shift : 2 ** this.shift;
      ports.trace.emit(event, { unit, cache, rid: t.sid, pasid: t.ssid, address, pa, size });
    } else {
      ports.trace.emit(event, { unit, cache, rid: t.sid, pasid: t.ssid, address });
    }
  }
}
