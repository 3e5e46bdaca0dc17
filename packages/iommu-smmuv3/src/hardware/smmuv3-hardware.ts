/**
 * The chip: an Arm SMMUv3 behind its registers, with one Non-secure programming interface (IHI 0070 chapter 3, 15).
 * Left out: Secure and Realm state, ATOS, MPAM, ECMDQ, DPT, AArch32 and 128-bit tables, memory types of the output.
 */
import {
  Access,
  type AtsCompletion,
  type CachedEntry,
  type ChipPorts,
  emitTranslationEnd,
  type HardwareUnit,
  type InvalidateCompletion,
  type IommuChip,
  type PageRequest,
  type RegisterFile,
  type Translation,
  TranslationStatus,
} from "@iommukit/core";
import { PRESETS, type Smmuv3Preset, type Smmuv3PresetName } from "../presets.js";
import { EVENT } from "../spec/events.js";
import * as r from "../spec/registers.js";
import { exceeds, highMaskFrom, lowMaskFrom } from "./address-bits.js";
import { AtcInvalidation } from "./atc-invalidation.js";
import { Ats } from "./ats.js";
import { cacheContents } from "./cache-contents.js";
import { ChipContext } from "./chip-context.js";
import { CommandQueue } from "./command-queue.js";
import { ConfigLookup } from "./config-lookup.js";
import { EventQueue } from "./event-queue.js";
import { Interrupts } from "./interrupts.js";
import { type BroadcastInvalidate, Invalidation } from "./invalidation.js";
import { PageRequests } from "./page-requests.js";
import { QuickPath } from "./quick-path.js";
import { QuickWalk } from "./quick-walk.js";
import { createRegisters, resetRegisters } from "./register-bank.js";
import { panForbids } from "./stage1-permissions.js";
import { Stage2Walk } from "./stage2-walk.js";
import { Stalls } from "./stall.js";
import { TableWalk } from "./table-walk.js";
import { PERM } from "./tlb-entry.js";
import { Transaction } from "./transaction.js";
import { TranslationCache } from "./translation-cache.js";
import { Translator } from "./translator.js";

/** For a chip without its driver. */
export interface Smmuv3HardwareOptions {
  /** The unit's name in the trace: "smmuv3". */
  readonly name: string;
  /** A named preset, or one of your own. */
  readonly preset: Smmuv3PresetName | Smmuv3Preset;
}

const { OK } = TranslationStatus;

/** Under drivers that are not ours: registers at byte offsets as in IHI 0070 chapter 6. */
export class Smmuv3Hardware implements IommuChip {
  readonly name: string;
  readonly units: readonly HardwareUnit[];
  readonly #chip: ChipContext;
  readonly registers: RegisterFile;
  readonly #interrupts: Interrupts;
  readonly #config: ConfigLookup;
  readonly #quick: QuickPath;
  readonly #translator: Translator;
  readonly #events: EventQueue;
  readonly #stalls: Stalls;
  readonly #pages: PageRequests;
  readonly #ats: Ats;
  readonly #atc: AtcInvalidation;
  readonly #tlb: TranslationCache;
  readonly #walks: TranslationCache;
  readonly #invalidation: Invalidation;
  readonly #commands: CommandQueue;
  readonly #transaction = new Transaction();
  readonly #endTranslated = (event: number) => this.#fault(event, this.#transaction, this.#out);
  /** Where the running translation writes its answer. */
  #out!: Translation;

  constructor(ports: ChipPorts, options: Smmuv3HardwareOptions) {
    const preset = typeof options.preset === "string" ? PRESETS[options.preset] : options.preset;
    const chip = new ChipContext(options.name, ports, preset);
    const registers = createRegisters(chip);
    const tlb = new TranslationCache(preset.caches.tlb);
    const walks = new TranslationCache(preset.caches.walk);
    const stage2 = new Stage2Walk(chip, tlb, walks);
    this.name = options.name;
    this.#chip = chip;
    this.registers = registers;
    this.#tlb = tlb;
    this.#walks = walks;
    this.#interrupts = new Interrupts(chip, registers);
    this.#config = new ConfigLookup(chip, registers, stage2);
    this.#quick = new QuickPath(chip, this.#config, tlb, new QuickWalk(tlb, walks));
    this.#translator = new Translator(chip, tlb, new TableWalk(chip, tlb, walks, stage2), stage2);
    this.#events = new EventQueue(chip, registers, this.#interrupts);
    this.#stalls = new Stalls(chip, this.#events);
    this.#pages = new PageRequests(chip, registers, this.#interrupts, this.#config, this.#events);
    this.#ats = new Ats(chip, registers, this.#config, this.#translator, this.#events);
    this.#invalidation = new Invalidation(chip, registers, tlb, walks);
    this.#atc = new AtcInvalidation(chip, () => this.#kick());
    this.#commands = new CommandQueue(
      chip,
      registers,
      this.#interrupts,
      this.#config,
      this.#invalidation,
      this.#atc,
      this.#pages,
      this.#stalls,
    );
    this.units = [this.#commands];
    this.#hook();
  }

  /** What follows from a write besides the stored value. */
  #hook(): void {
    const registers = this.registers;
    registers.onWrite(r.CR0, () => this.#updateCr0());
    registers.onWrite(r.CMDQ_PROD, () => this.#kick());
    registers.onWrite(r.EVENTQ_CONS, () => this.#eventSpace());
    registers.onWrite(r.GERRORN, () => {
      this.#eventSpace();
      this.#kick();
    });
  }

  #eventSpace(): void {
    this.#events.forget();
    this.#stalls.admit();
  }

  #kick(): void {
    this.#chip.ports.scheduler.kick(this.#commands);
  }

  /** 6.3.9: every field is independent, and an update is complete when the write is. */
  #updateCr0(): void {
    const registers = this.registers;
    const before = registers.get(r.CR0ACK);
    const now = registers.get(r.CR0);
    registers.set(r.CR0ACK, now);
    this.#chip.enabled = (now & r.CR0.SMMUEN.lowMask) !== 0;
    const rose = now & ~before;
    const fell = before & ~now;
    if ((fell & r.CR0.SMMUEN.lowMask) !== 0) this.#stalls.terminateAll();
    // The registers of the stream table can be written while SMMUEN is 0.
    if ((rose & r.CR0.SMMUEN.lowMask) !== 0) this.#config.forget();
    if ((rose & r.CR0.EVENTQEN.lowMask) !== 0) this.#eventSpace();
    if ((rose & r.CR0.CMDQEN.lowMask) !== 0) this.#kick();
  }

  reset(): void {
    resetRegisters(this.registers, this.#chip);
    this.#config.clear();
    this.#tlb.clear();
    this.#walks.clear();
    this.#stalls.reset();
    this.#atc.reset();
    this.#events.forget();
    this.#chip.enabled = false;
  }

  read32(offset: number): number {
    return this.registers.read32(offset);
  }

  write32(offset: number, value: number): void {
    // 6.3.14: without UPDATE the write is ignored; with it the update is complete at once.
    if (offset === r.GBPA.offset && (value & r.GBPA.UPDATE.lowMask) === 0) return;
    this.registers.write32(offset, value);
  }

  read64(offset: number): bigint {
    return this.registers.read64(offset);
  }

  write64(offset: number, value: bigint): void {
    // Of STATUSR and GBPA only the latter can be written: as by 32 bits (6.2).
    if (offset === r.GBPA.offset - 4) this.write32(r.GBPA.offset, Number(value >> 32n));
    else this.registers.write64(offset, value);
  }

  translate(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const done = this.#quick.translate(rid, pasid, hi, lo, access, out);
    return done > this.#chip.ended ? OK : this.#rest(done, rid, pasid, hi, lo, access, out);
  }

  /** What is not common, or somebody listens to the ends of transactions. */
  #rest(done: number, rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    if (done === 0) return this.#transact(rid, pasid, hi, lo, access, out);
    emitTranslationEnd(this.#chip.ends, this.name, rid, pasid, hi, lo, access, OK, out);
    return OK;
  }

  #transact(rid: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const t = this.#transaction;
    t.set(rid, pasid, hi, lo, access);
    this.#out = out;
    const status = this.#translate(t, access, out);
    if (this.#chip.ends.wanted) emitTranslationEnd(this.#chip.ends, this.name, rid, pasid, hi, lo, access, status, out);
    return status;
  }

  #translate(t: Transaction, access: number, out: Translation): number {
    if ((access & Access.TRANSLATED) !== 0) return this.#ats.translated(t, access, out, this.#endTranslated);
    if (!this.#chip.enabled) return this.#bypassGlobally(t, out);
    const config = this.#config;
    const bad = config.find(t.sid, t.ssid);
    if (bad !== 0) {
      // What was not found has no overrides; a stage 2 fault of the CD's fetch has the stream's.
      if (bad >= EVENT.F_WALK_EABT) t.override(config.stream, access);
      return this.#fault(bad, t, out);
    }
    const { context, stream } = config;
    // STE.Config = 0b0xx: abort, without a record.
    if ((stream.config & 4) === 0) return TranslationStatus.FAULT;
    t.override(stream, access);
    const translator = this.#translator;
    const event = context
      ? translator.translate(t, stream, context, t.need, t.need)
      : translator.bypassStage1(t, stream, t.need, t.need);
    if (event !== 0) return this.#fault(event, t, out);
    const { shift } = translator;
    out.hi = translator.hi | (t.hi & ~highMaskFrom(shift));
    out.lo = translator.lo | (t.lo & ~lowMaskFrom(shift));
    out.shift = shift;
    let perms = (t.priv ? translator.perms >>> 3 : translator.perms) & 7;
    if (context?.pan && t.priv && panForbids(context, PERM.PR, translator.perms))
      perms &= ~(Access.READ | Access.WRITE);
    out.perms = perms;
    return TranslationStatus.OK;
  }

  /** SMMUEN = 0: GBPA decides (6.3.14, 3.4). */
  #bypassGlobally(t: Transaction, out: Translation): number {
    const { oasBits } = this.#chip.features;
    const abort = (this.registers.get(r.GBPA) & r.GBPA.ABORT.lowMask) !== 0;
    if (abort || exceeds(t.hi, t.lo, oasBits)) return TranslationStatus.FAULT;
    out.hi = t.hi;
    out.lo = t.lo;
    out.shift = oasBits;
    out.perms = Access.READ | Access.WRITE | Access.EXEC;
    return TranslationStatus.OK;
  }

  /** Terminates or stalls, and records, as the stage that faulted is configured (3.12, 5.5). */
  #fault(event: number, t: Transaction, out: Translation): number {
    const { fault } = this.#chip;
    const { context, stream } = this.#config;
    const found = event !== EVENT.C_BAD_STREAMID && event !== EVENT.F_STE_FETCH && event !== EVENT.C_BAD_STE;
    const merge = found && stream.mev;
    if (event < EVENT.F_TRANSLATION) {
      this.#events.record(event, t, merge);
      return TranslationStatus.FAULT;
    }
    let stalls = false;
    let records = true;
    let aborts = true;
    if (fault.s2 === 1) {
      stalls = stream.s2S;
      records = stream.s2R;
    } else if (context !== null) {
      stalls = context.s;
      records = context.r;
      aborts = context.a;
    }
    if (stalls) {
      out.stag = this.#stalls.open(event, t);
      return TranslationStatus.STALLED;
    }
    if (records) this.#events.record(event, t, merge);
    else this.#events.suppress(event, t, fault.s2 === 1 ? "STE.S2R is 0" : "CD.R is 0");
    return aborts ? TranslationStatus.FAULT : TranslationStatus.ABORTED;
  }

  translationRequest(rid: number, pasid: number, hi: number, lo: number, access: number, out: AtsCompletion): number {
    return this.#ats.request(rid, pasid, hi, lo, access, out);
  }

  pageRequest(request: PageRequest): void {
    this.#pages.request(request);
  }

  invalidateCompletion(completion: InvalidateCompletion): void {
    this.#atc.complete(completion);
  }

  commandsConsumed(): Readonly<Record<string, number>> {
    return this.#commands.consumed();
  }

  cacheContents(): readonly CachedEntry[] {
    return cacheContents(this.#config, this.#tlb, this.#walks);
  }

  /** A TLB invalidate instruction of a PE arrives (IDR0.BTM, CR2.PTM). ATCs are not affected: they need CMD_ATC_INV. */
  broadcastInvalidate(message: BroadcastInvalidate): void {
    this.#invalidation.broadcast(message);
  }
}
