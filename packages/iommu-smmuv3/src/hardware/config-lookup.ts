/**
 * From StreamID and SubstreamID to STE and CD: tables in memory, linear or 2-level, behind configuration caches that only
 * CMD_CFGI_* and their own replacement empty. IHI 0070 3.3.2, 3.3.3, 4.3, 5.1 to 5.4; order of errors 7.3.22.
 */
import { RecentAnswers, type RegisterFile, recentSlot } from "@iommukit/core";
import { CD, CD_SPLIT, L1CD } from "../spec/context-descriptor.js";
import { EVENT, EVENT_CLASS } from "../spec/events.js";
import { CR2, STRTAB_BASE, STRTAB_BASE_CFG } from "../spec/registers.js";
import { L1STD, STE, STE_S1DSS, STE_S1FMT } from "../spec/stream-table.js";
import { exceeds, highMaskFrom, lowMaskFrom } from "./address-bits.js";
import type { ChipContext } from "./chip-context.js";
import { ConfigCache } from "./config-cache.js";
import { ContextConfig } from "./context-config.js";
import { FoundConfig } from "./found-config.js";
import type { Stage2Walk } from "./stage2-walk.js";
import { StreamConfig } from "./stream-config.js";
import { PERM } from "./tlb-entry.js";

/** SubstreamID key of STE caches, and of transactions without a SubstreamID. */
const NO_SSID = -1;

/** A level 1 descriptor: a table's address and the entries that are in it. */
class LevelOne {
  hi = 0;
  lo = 0;
  /** Entries of the level 2 table; 0: there is none. */
  entries = 0;
}

export class ConfigLookup {
  /** Answer of the last successful lookup. */
  stream: StreamConfig;
  /** The CD; null when stage 1 is bypassed. */
  context: ContextConfig | null = null;
  readonly #streams: ConfigCache<StreamConfig>;
  readonly #contexts: ConfigCache<ContextConfig>;
  readonly #streamTables: ConfigCache<LevelOne>;
  readonly #contextTables: ConfigCache<LevelOne>;
  /** Kept across transactions while no cache changes. */
  readonly found: RecentAnswers<FoundConfig>;
  /** A chip without configuration caches must not have one here either. */
  readonly #remembers: boolean;
  readonly #uncached: boolean;
  /** Where the STE fetched last lies, and whether one linear table led there. */
  readonly #steAt = { hi: 0, lo: 0 };
  #linear = false;

  constructor(
    private readonly chip: ChipContext,
    private readonly registers: RegisterFile,
    private readonly stage2: Stage2Walk,
  ) {
    const { ste, cd, l1 } = chip.preset.caches;
    this.#streams = new ConfigCache(ste, () => new StreamConfig());
    this.#contexts = new ConfigCache(cd, () => new ContextConfig());
    this.#streamTables = new ConfigCache(l1, () => new LevelOne());
    this.#contextTables = new ConfigCache(l1, () => new LevelOne());
    this.stream = this.#streams.slots[0];
    this.found = new RecentAnswers(() => new FoundConfig(chip.ports.memory, this.stream));
    this.#remembers = ste.sets > 0 && cd.sets > 0;
    this.#uncached = ste.sets === 0 && cd.sets === 0;
  }

  /** What both caches of entries hold; for reports. */
  get cached(): { readonly streams: ConfigCache<StreamConfig>; readonly contexts: ConfigCache<ContextConfig> } {
    return { streams: this.#streams, contexts: this.#contexts };
  }

  /**
   * The STE and, where stage 1 translates, the CD of a transaction. `ssid` is -1 without a SubstreamID.
   * @returns 0, or the event number
   */
  find(sid: number, ssid: number): number {
    const found = this.found.slots[recentSlot(sid, ssid)];
    const known = this.#remembers && found.sid === sid && found.ssid === ssid;
    if (known && !this.chip.configLookups.wanted && !this.chip.reads.wanted) {
      this.stream = found.stream;
      this.context = found.context;
      return 0;
    }
    const bad = this.findStream(sid, ssid);
    if (bad !== 0) return bad;
    const event = this.#findContext(ssid);
    if (event !== 0) return event;
    const { chip, stream, context } = this;
    if (known) return 0;
    if (this.#remembers) {
      found.set(sid, ssid, stream, context);
      this.found.give(found);
    }
    if (this.#uncached && chip.mayShorten && context !== null && this.#linear && stream.s1Fmt === STE_S1FMT.linear) {
      found.setUncached(sid, ssid, stream, context, this.#steAt, this.#at);
      this.found.give(found);
    }
    return 0;
  }

  /** Slots of the caches get other contents. */
  #cachesChange(): void {
    if (!this.#uncached) this.forget();
  }

  /** The STE alone. */
  findStream(sid: number, ssid: number): number {
    this.context = null;
    const hit = this.#streams.find(sid, NO_SSID);
    if (this.chip.configLookups.wanted) this.#trace(hit >= 0, "STE", sid, ssid);
    if (hit >= 0) {
      this.stream = this.#streams.slots[hit];
      return this.stream.valid ? 0 : EVENT.C_BAD_STE;
    }
    return this.#fetchStream(sid);
  }

  /** 7.3.22: C_BAD_STREAMID, F_STE_FETCH, C_BAD_STE. */
  #fetchStream(sid: number): number {
    const { chip, registers } = this;
    const { features, ports } = chip;
    const regs = registers.words;
    const log2size = STRTAB_BASE_CFG.LOG2SIZE.get(regs, STRTAB_BASE_CFG.index);
    const sidBits = Math.min(log2size, features.sidSize);
    if (sidBits < 32 && sid >>> sidBits !== 0) return EVENT.C_BAD_STREAMID;
    let hi = STRTAB_BASE.ADDR.hi(regs, STRTAB_BASE.index);
    let lo = STRTAB_BASE.ADDR.lo(regs, STRTAB_BASE.index);
    let index = sid;
    this.#linear = true;
    if (features.twoLevelStreamTable && STRTAB_BASE_CFG.FMT.get(regs, STRTAB_BASE_CFG.index) === 1) {
      const split = this.#split();
      this.#linear = false;
      const event = this.#streamTable(sid, hi, lo, log2size, split);
      if (event !== 0) return event;
      index = sid & ((1 << split) - 1);
      hi = this.#table.hi;
      lo = this.#table.lo;
    } else {
      hi &= highMaskFrom(log2size + 6);
      lo &= lowMaskFrom(log2size + 6);
    }
    hi += index >>> 26;
    lo |= index << 6;
    this.#steAt.hi = hi;
    this.#steAt.lo = lo;
    const words = ports.memory.view(hi, lo, STE.words);
    if (words === null) return chip.fault.fetch(EVENT.F_STE_FETCH, hi, lo);
    const at = ports.memory.viewAt;
    if (chip.reads.wanted) chip.tableRead("STE", sid, hi, lo, words, at);
    this.#cachesChange();
    const slot = this.#streams.victim(sid, NO_SSID);
    const stream = this.#streams.slots[slot];
    stream.sid = sid;
    stream.decode(words, at, features, CR2.E2H.get(regs, CR2.index) === 1);
    this.stream = stream;
    if (stream.valid || chip.preset.caches.cachesInvalid) this.#streams.keep(slot, sid, NO_SSID);
    return stream.valid ? 0 : EVENT.C_BAD_STE;
  }

  #table = new LevelOne();

  #split(): number {
    const split = STRTAB_BASE_CFG.SPLIT.get(this.registers.words, STRTAB_BASE_CFG.index);
    return split === 8 || split === 10 ? split : 6;
  }

  /** Level 1 stream table descriptor (5.1). */
  #streamTable(sid: number, baseHi: number, baseLo: number, log2size: number, split: number): number {
    const first = sid >>> split;
    const hit = this.#streamTables.find(first, NO_SSID);
    if (hit >= 0) {
      this.#table = this.#streamTables.slots[hit];
    } else {
      const align = Math.max(6, log2size - split + 3);
      const hi = (baseHi & highMaskFrom(align)) + (first >>> 29);
      const lo = (baseLo & lowMaskFrom(align)) | (first << 3);
      const { memory } = this.chip.ports;
      const words = memory.view(hi, lo, L1STD.words);
      if (words === null) return this.chip.fault.fetch(EVENT.F_STE_FETCH, hi, lo);
      const at = memory.viewAt;
      if (this.chip.reads.wanted) this.chip.tableRead("L1STD", first, hi, lo, words, at);
      const slot = this.#streamTables.victim(first, NO_SSID);
      const table = this.#streamTables.slots[slot];
      const span = L1STD.Span.get(words, at);
      table.entries = span === 0 || span > split + 1 ? 0 : 1 << (span - 1);
      table.hi = L1STD.L2Ptr.hi(words, at) & highMaskFrom(span + 5);
      table.lo = L1STD.L2Ptr.lo(words, at) & lowMaskFrom(span + 5);
      this.#streamTables.keep(slot, first, NO_SSID);
      this.#table = table;
    }
    return (sid & ((1 << split) - 1)) < this.#table.entries ? 0 : EVENT.C_BAD_STREAMID;
  }

  /** Which CD the transaction uses, if any (S1DSS, 5.2). */
  #findContext(ssid: number): number {
    const { stream } = this;
    if (!stream.s1) return ssid >= 0 && (stream.config & 4) !== 0 ? EVENT.C_BAD_SUBSTREAMID : 0;
    if (ssid < 0) {
      if (stream.s1CdMax > 0) {
        if (stream.s1dss === STE_S1DSS.bypass) return 0;
        if (stream.s1dss !== STE_S1DSS.ssid0) return EVENT.F_STREAM_DISABLED;
      }
      return this.#context(0, ssid);
    }
    if (stream.s1CdMax === 0 || ssid >>> stream.s1CdMax !== 0) return EVENT.C_BAD_SUBSTREAMID;
    if (ssid === 0 && stream.s1dss === STE_S1DSS.ssid0) return EVENT.F_STREAM_DISABLED;
    return this.#context(ssid, ssid);
  }

  #context(index: number, pasid: number): number {
    const { chip, stream } = this;
    const hit = this.#contexts.find(stream.sid, index);
    if (chip.configLookups.wanted) this.#trace(hit >= 0, "CD", stream.sid, pasid);
    if (hit >= 0) {
      this.context = this.#contexts.slots[hit];
      return this.context.valid ? 0 : EVENT.C_BAD_CD;
    }
    const event = this.#locateContext(index);
    if (event !== 0) return event;
    const { memory } = chip.ports;
    const { hi, lo } = this.#at;
    const words = memory.view(hi, lo, CD.words);
    if (words === null) return chip.fault.fetch(EVENT.F_CD_FETCH, hi, lo);
    const at = memory.viewAt;
    if (chip.reads.wanted) chip.tableRead("CD", index, hi, lo, words, at);
    this.#cachesChange();
    const slot = this.#contexts.victim(stream.sid, index);
    const context = this.#contexts.slots[slot];
    context.decode(words, at, chip.features, stream);
    this.context = context;
    if (context.valid || chip.preset.caches.cachesInvalid) this.#contexts.keep(slot, stream.sid, index);
    return context.valid ? 0 : EVENT.C_BAD_CD;
  }

  /** Address of a CD or L1CD after stage 2. */
  readonly #at = { hi: 0, lo: 0 };

  #locateContext(index: number): number {
    const { stream } = this;
    if (stream.s1Fmt === STE_S1FMT.linear) {
      const align = stream.s1CdMax + 6;
      const lo = stream.contextLo & lowMaskFrom(align);
      return this.#throughStage2(stream.contextHi & highMaskFrom(align), lo | (index << 6));
    }
    const split = stream.s1Fmt === STE_S1FMT.twoLevel4K ? CD_SPLIT.twoLevel4K : CD_SPLIT.twoLevel64K;
    const event = this.#contextTable(index >>> split, split);
    if (event !== 0) return event;
    const inLeaf = index & ((1 << split) - 1);
    return this.#throughStage2(this.#table.hi, this.#table.lo | (inLeaf << 6));
  }

  /** Level 1 context descriptor (5.3). */
  #contextTable(first: number, split: number): number {
    const { chip, stream } = this;
    const hit = this.#contextTables.find(stream.sid, first);
    if (hit >= 0) {
      this.#table = this.#contextTables.slots[hit];
      return this.#table.entries === 0 ? EVENT.C_BAD_SUBSTREAMID : 0;
    }
    const align = Math.max(6, stream.s1CdMax - split + 3);
    const event = this.#throughStage2(
      stream.contextHi & highMaskFrom(align),
      (stream.contextLo & lowMaskFrom(align)) | (first << 3),
    );
    if (event !== 0) return event;
    const { memory } = chip.ports;
    const words = memory.view(this.#at.hi, this.#at.lo, L1CD.words);
    if (words === null) return chip.fault.fetch(EVENT.F_CD_FETCH, this.#at.hi, this.#at.lo);
    const at = memory.viewAt;
    if (chip.reads.wanted) chip.tableRead("L1CD", first, this.#at.hi, this.#at.lo, words, at);
    const slot = this.#contextTables.victim(stream.sid, first);
    const table = this.#contextTables.slots[slot];
    table.hi = L1CD.L2Ptr.hi(words, at);
    table.lo = L1CD.L2Ptr.lo(words, at) & lowMaskFrom(split + 6);
    const usable = L1CD.V.get(words, at) === 1 && !exceeds(table.hi, table.lo, chip.features.oasBits);
    table.entries = usable ? 1 << split : 0;
    if (usable || chip.preset.caches.cachesInvalid) this.#contextTables.keep(slot, stream.sid, first);
    this.#table = table;
    return usable ? 0 : EVENT.C_BAD_SUBSTREAMID;
  }

  /** CDs lie in IPA space where stage 2 translates. */
  #throughStage2(hi: number, lo: number): number {
    const { chip, stage2, stream } = this;
    this.#at.hi = hi;
    this.#at.lo = lo;
    if (!stream.s2) return 0;
    const event = stage2.translate(stream, hi, lo, PERM.PR, PERM.PR, EVENT_CLASS.CD);
    if (event !== 0) return event;
    if (stream.s2Ptw && (stage2.perms & PERM.S2_DEVICE) !== 0) {
      return chip.fault.stage2(EVENT.F_PERMISSION, EVENT_CLASS.CD, hi, lo);
    }
    this.#at.hi = stage2.hi | (hi & ~highMaskFrom(stage2.shift));
    this.#at.lo = stage2.lo | (lo & ~lowMaskFrom(stage2.shift));
    return 0;
  }

  /** CFGI_STE: STEs of the range, and with them every CD found through them (5.2.1). `leaf` keeps level 1 descriptors. */
  invalidateStreams(first: number, last: number, leaf: boolean): number {
    this.forget();
    const all = 0xffff_ffff;
    let count = this.#streams.invalidate(first, last, NO_SSID, NO_SSID);
    count += this.#contexts.invalidate(first, last, 0, all);
    count += this.#contextTables.invalidate(first, last, 0, all);
    if (!leaf) {
      const split = this.#split();
      const unit = 2 ** split;
      count += this.#streamTables.invalidate(Math.floor(first / unit), Math.floor(last / unit), NO_SSID, NO_SSID);
    }
    return count;
  }

  /** CFGI_CD and CFGI_CD_ALL. */
  invalidateContexts(sid: number, firstSsid: number, lastSsid: number, leaf: boolean): number {
    this.forget();
    let count = this.#contexts.invalidate(sid, sid, firstSsid, lastSsid);
    // The leaf size is in an STE that need not be cached: drop what either size could have covered.
    if (!leaf)
      count += this.#contextTables.invalidate(
        sid,
        sid,
        firstSsid >>> CD_SPLIT.twoLevel64K,
        lastSsid >>> CD_SPLIT.twoLevel4K,
      );
    return count;
  }

  clear(): number {
    this.forget();
    return this.#streams.clear() + this.#contexts.clear() + this.#streamTables.clear() + this.#contextTables.clear();
  }

  /** Nothing that was found before counts. */
  forget(): void {
    this.found.forget();
  }

  #trace(hit: boolean, cache: string, rid: number, pasid: number): void {
    this.chip.ports.trace.emit(hit ? "config:hit" : "config:missed", { unit: this.chip.name, cache, rid, pasid });
  }
}
