/** PCIe ATS: translation requests and translated transactions, with what each configuration answers. IHI 0070 3.9.1, 13.6, 13.7. */
import {
  Access,
  type AtsCompletion,
  AtsStatus,
  type RegisterFile,
  type Translation,
  TranslationStatus,
} from "@iommukit/core";
import { EVENT } from "../spec/events.js";
import * as r from "../spec/registers.js";
import { STE_CONFIG, STE_EATS } from "../spec/stream-table.js";
import { exceeds, highMaskFrom, lowMaskFrom } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";
import type { ConfigLookup } from "./config-lookup.js";
import type { EventQueue } from "./event-queue.js";
import { panForbids } from "./stage1-permissions.js";
import type { StreamConfig } from "./stream-config.js";
import { PERM } from "./tlb-entry.js";
import { Transaction } from "./transaction.js";
import type { Translator } from "./translator.js";

export class Ats {
  readonly #transaction = new Transaction();

  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
    private readonly config: ConfigLookup,
    private readonly translator: Translator,
    private readonly events: EventQueue,
  ) {}

  #cr0(field: { lowMask: number }): boolean {
    return (this.registers.words[r.CR0.index] & field.lowMask) !== 0;
  }

  get #recordsConfigErrors(): boolean {
    return (this.registers.words[r.CR2.index] & r.CR2.REC_CFG_ATS.lowMask) !== 0;
  }

  /** STE.EATS as CR0.ATSCHK lets it count (5.2). */
  #eats(stream: StreamConfig): number {
    if (stream.eats === STE_EATS.full) return STE_EATS.full;
    return stream.eats === STE_EATS.s1check && this.#cr0(r.CR0.ATSCHK) ? STE_EATS.s1check : STE_EATS.abort;
  }

  /** 3.9.1.2. `access` is what the device asks for; without WRITE it is NW = 1. */
  request(rid: number, pasid: number, hi: number, lo: number, access: number, out: AtsCompletion): number {
    const t = this.#transaction;
    // Without a PASID there is neither Exe nor Priv (13.7).
    const asked = pasid < 0 ? access & ~(Access.EXEC | Access.PRIV) : access;
    t.set(rid, pasid, hi, lo, asked);
    const status = this.#request(t, asked, out);
    if (this.chip.ports.trace.enabled) this.#trace(t, status, out);
    return status;
  }

  #request(t: Transaction, access: number, out: AtsCompletion): number {
    none(out, t, this.chip.features.smallestGranule);
    if (!this.chip.features.ats) return AtsStatus.UR;
    if (!this.#cr0(r.CR0.SMMUEN)) return this.#refuse(t);
    const bad = this.config.findStream(t.sid, t.ssid);
    if (bad !== 0) return this.#configError(bad, t);
    const { stream } = this.config;
    if ((stream.config & 4) === 0) return AtsStatus.UR;
    const eats = this.#eats(stream);
    if (eats === STE_EATS.abort) return this.#refuse(t);
    t.override(stream, access);
    const event = this.config.find(t.sid, t.ssid);
    if (isTranslationFault(event)) return AtsStatus.SUCCESS;
    if (event !== 0) return this.#configError(event, t);
    return this.#translate(t, stream, eats, out);
  }

  #translate(t: Transaction, stream: StreamConfig, eats: number, out: AtsCompletion): number {
    const { config, translator } = this;
    const { context } = config;
    // Execution alone is not granted (13.7.1): it comes with reading, or is what reading means.
    const asked = (stream.instcfg === 3 ? PERM.UX : PERM.UR) | (t.write ? PERM.UW : 0);
    const want = t.priv ? asked << 3 : asked;
    const event = context
      ? translator.translate(t, stream, context, 0, want)
      : translator.bypassStage1(t, stream, 0, want);
    if (event === EVENT.F_WALK_EABT) return this.#configError(event, t);
    if (event !== 0) return AtsStatus.SUCCESS;
    const shift = t.priv ? 3 : 0;
    let perms = (translator.perms >>> shift) & 7;
    if (context && panForbids(context, want & (PERM.PR | PERM.PW), translator.perms)) perms &= ~3;
    grant(out, t, perms, stream.instcfg);
    // 13.6.4: where no stage translates, writing is permitted whether asked for or not.
    if (!context && !stream.s2) out.write = true;
    if (!out.read && !out.write) return AtsStatus.SUCCESS;
    out.shift = translator.shift;
    const split = eats === STE_EATS.s1check;
    const pageHi = split ? translator.ipaHi : translator.hi;
    const pageLo = split ? translator.ipaLo : translator.lo;
    out.hi = pageHi | (t.hi & ~highMaskFrom(out.shift));
    out.lo = (pageLo | (t.lo & ~lowMaskFrom(out.shift))) & -0x1000;
    return AtsStatus.SUCCESS;
  }

  /** UR, and F_BAD_ATS_TREQ. */
  #refuse(t: Transaction): number {
    this.events.record(EVENT.F_BAD_ATS_TREQ, t, false);
    return AtsStatus.UR;
  }

  /** CA; recorded only where CR2.REC_CFG_ATS asks for it. */
  #configError(event: number, t: Transaction): number {
    if (this.#recordsConfigErrors) this.events.record(event, t, false);
    return AtsStatus.CA;
  }

  /**
   * 3.9.1.3: a transaction whose address the device has translated: without a SubstreamID, data, unprivileged (13.7).
   * `fault` ends it like an ordinary transaction's stage 2 fault.
   */
  translated(t: Transaction, access: number, out: Translation, fault: (event: number) => number): number {
    const { features } = this.chip;
    const plain = access & ~(Access.EXEC | Access.PRIV);
    t.set(t.sid, -1, t.hi, t.lo, plain);
    if (!features.ats || !this.#cr0(r.CR0.SMMUEN)) return this.#forbid(t);
    if (this.#cr0(r.CR0.ATSCHK)) {
      const bad = this.config.findStream(t.sid, t.ssid);
      if (bad !== 0) {
        if (this.#recordsConfigErrors) this.events.write(bad, t, false);
        return TranslationStatus.FAULT;
      }
      const { stream } = this.config;
      if ((stream.config & 4) === 0) return TranslationStatus.FAULT;
      const eats = this.#eats(stream);
      if (stream.config === STE_CONFIG.bypass || eats === STE_EATS.abort) return this.#forbid(t);
      if (eats === STE_EATS.s1check) return this.#throughStage2(t, stream, plain, out, fault);
    }
    if (exceeds(t.hi, t.lo, features.oasBits)) return TranslationStatus.FAULT;
    out.hi = t.hi;
    out.lo = t.lo;
    out.shift = 12;
    out.perms = Access.READ | Access.WRITE | Access.EXEC;
    return TranslationStatus.OK;
  }

  /** Split-stage ATS: the address is an IPA (13.6.3). */
  #throughStage2(
    t: Transaction,
    stream: StreamConfig,
    access: number,
    out: Translation,
    fault: (event: number) => number,
  ): number {
    t.override(stream, access);
    const { translator } = this;
    const event = translator.bypassStage1(t, stream, t.need, t.need);
    if (event !== 0) return fault(event);
    out.shift = translator.shift;
    out.hi = translator.hi | (t.hi & ~highMaskFrom(out.shift));
    out.lo = translator.lo | (t.lo & ~lowMaskFrom(out.shift));
    out.perms = (translator.perms >>> (t.priv ? 3 : 0)) & 7;
    return TranslationStatus.OK;
  }

  #forbid(t: Transaction): number {
    this.events.record(EVENT.F_TRANSL_FORBIDDEN, t, false);
    return TranslationStatus.FAULT;
  }

  #trace(t: Transaction, status: number, out: AtsCompletion): void {
    const { name, ports } = this.chip;
    const address = (BigInt(t.hi >>> 0) << 32n) | BigInt(t.lo >>> 0);
    const word = status === AtsStatus.SUCCESS ? "SUCCESS" : status === AtsStatus.UR ? "UR" : "CA";
    const access = (out.read ? Access.READ : 0) | (out.write ? Access.WRITE : 0) | (out.execute ? Access.EXEC : 0);
    ports.trace.emit("ats:completed", {
      unit: name,
      rid: t.sid,
      pasid: t.ssid,
      address,
      status: word,
      size: 2 ** out.shift,
      access,
    });
  }
}

function isTranslationFault(event: number): boolean {
  return event >= EVENT.F_TRANSLATION && event <= EVENT.F_PERMISSION;
}

/** R = W = 0 for one smallest translation unit, which is the smallest granule (3.9.1, 3.9.1.2): no access for this page. */
function none(out: AtsCompletion, t: Transaction, smallest: number): void {
  out.hi = 0;
  out.lo = 0;
  out.shift = smallest;
  out.read = false;
  out.write = false;
  out.execute = false;
  out.privileged = t.incomingPriv;
  out.global = false;
  out.nonSnooped = false;
  out.untranslatedOnly = false;
}

/** 13.7.1: what the request gets of the translation's read, write and execute (bits 0, 1, 2). */
function grant(out: AtsCompletion, t: Transaction, perms: number, instcfg: number): void {
  const readable = (perms & 1) !== 0;
  const executable = (perms & 4) !== 0;
  out.write = (perms & 2) !== 0 && t.write;
  out.read = instcfg === 3 ? executable : readable;
  if (instcfg === 3) out.execute = t.exec && executable;
  else out.execute = t.exec && readable && (executable || instcfg === 2);
}
