/**
 * What a translation has to answer, worked out a second time: plainly, on bigints, without caches, after the texts alone (IHI
 * 0070 3.4, 3.13, 5.2, 5.4, 7.3.22 and DDI 0487 D8). VMSAv8-64 at one or both stages, with hardware updates of flags.
 */

/** Fields of an STE that a walk depends on. */
export interface SteFields {
  readonly Config: number;
  readonly S1ContextPtr: bigint;
  readonly S2T0SZ: number;
  readonly S2SL0: number;
  readonly S2TG: number;
  readonly S2PS: number;
  readonly S2TTB: bigint;
  readonly S2HA: boolean;
  readonly S2HD: boolean;
  readonly S2AFFD: boolean;
  readonly S2PTW: boolean;
  readonly S2FWB: boolean;
}

/** Fields of a CD that a walk depends on. */
export interface CdFields {
  readonly T0SZ: number;
  readonly TG0: number;
  readonly TTB0: bigint;
  readonly EPD0: boolean;
  readonly HAD0: boolean;
  readonly E0PD0: boolean;
  readonly T1SZ: number;
  readonly TG1: number;
  readonly TTB1: bigint;
  readonly EPD1: boolean;
  readonly HAD1: boolean;
  readonly E0PD1: boolean;
  readonly IPS: number;
  readonly TBI: number;
  readonly AFFD: boolean;
  readonly WXN: boolean;
  readonly PAN: boolean;
  readonly HA: boolean;
  readonly HD: boolean;
}

export interface Rights {
  readonly r: boolean;
  readonly w: boolean;
  readonly x: boolean;
}

/** `need` must be permitted; `want` decides about dirty state and about whether stage 2 is asked at all. */
export interface Request {
  readonly need: Rights;
  readonly want: Rights;
  readonly privileged: boolean;
}

export interface Answer {
  readonly pa: bigint;
  readonly rights: Rights;
}

/** Ends a walk. `at` is the IPA of a stage 2 fault, or what could not be fetched. */
export class Failure {
  constructor(
    readonly ID: string,
    readonly stage: 1 | 2,
    readonly Class: "CD" | "TT" | "IN",
    readonly at = 0n,
    /** A permission fault although writing is permitted. */
    readonly writable = false,
    /** A table was to be written, not read. */
    readonly update = false,
  ) {}
}

export const NOTHING: Rights = { r: false, w: false, x: false };
const READ: Rights = { r: true, w: false, x: false };
const UPDATE: Rights = { r: false, w: true, x: false };
const SIZES = [32, 36, 40, 42, 44, 48, 52, 52];
const GRANULES = [12, 16, 14];
const GRANULES1 = [0, 14, 12, 16];

const bit = (n: number) => 1n << BigInt(n);
const has = (value: bigint, n: number) => (value & bit(n)) !== 0n;
const exceeds = (value: bigint, bits: number) => value >> BigInt(bits) !== 0n;
const lacks = (need: Rights, rights: Rights) => (need.r && !rights.r) || (need.w && !rights.w) || (need.x && !rights.x);

/** A descriptor that a walk has read. */
export interface Read {
  readonly at: bigint;
  readonly stage: 1 | 2;
  readonly granule: number;
  readonly level: number;
  /** What the stage translates: a virtual address with bits 63:56 as they count, or an IPA. */
  readonly input: bigint;
}

interface Table {
  readonly stage: 1 | 2;
  readonly granule: number;
  readonly bits: number;
  readonly start: number;
  readonly base: bigint;
  readonly outputBits: number;
}

export class ReferenceWalk {
  /** StreamWorld EL2: one table, one level of privilege. */
  el2 = false;
  /** Indexes of the words that flag updates have changed. */
  readonly updated: number[] = [];
  /** Of the last translation; the first `contextReads` of them found the CD. */
  readonly reads: Read[] = [];
  contextReads = 0;

  /**
   * `words` are the doublewords of memory from `base` on; flag updates change them. `isUnknown` answers whether other memory is at
   * an address: a walk that comes there ends with UNKNOWN.
   */
  constructor(
    readonly words: BigUint64Array,
    readonly base: bigint,
    private readonly oas: number,
    readonly ste: SteFields,
    readonly cd: CdFields,
    private readonly isUnknown: (address: bigint) => boolean,
  ) {}

  has(address: bigint): boolean {
    return address >= this.base && address < this.base + BigInt(this.words.length * 8);
  }

  #load(address: bigint): bigint {
    return this.words[Number((address - this.base) >> 3n)];
  }

  #update(address: bigint, descriptor: bigint): void {
    if (this.#load(address) === descriptor) return;
    const index = Number((address - this.base) >> 3n);
    this.words[index] = descriptor;
    this.updated.push(index);
  }

  /** Follows one stage's tables to the page or block. `locate` answers where a descriptor lies, `above` sees table descriptors. */
  #leaf(
    table: Table,
    input: bigint,
    fail: (ID: string, at?: bigint) => Failure,
    locate: (at: bigint) => bigint,
    above: (descriptor: bigint) => void,
  ): { entry: bigint; at: bigint; descriptor: bigint; output: bigint } {
    const { stage, granule, start, outputBits } = table;
    const wide = granule === 16 && this.oas === 52;
    let { base } = table;
    for (let level = start; ; level++) {
      const shift = granule + (3 - level) * (granule - 3);
      const width = level === start ? table.bits - shift : granule - 3;
      const entry = base + (((input >> BigInt(shift)) & (bit(width) - 1n)) << 3n);
      const at = locate(entry);
      if (!this.has(at)) throw fail(this.isUnknown(at) ? "UNKNOWN" : "F_WALK_EABT", at);
      this.reads.push({ at, stage, granule, level, input });
      const descriptor = this.#load(at);
      if (!has(descriptor, 0)) throw fail("F_TRANSLATION");
      let output = descriptor & (bit(48) - bit(granule));
      if (wide) output |= ((descriptor >> 12n) & 15n) << 48n;
      const isTable = level < 3 && has(descriptor, 1);
      const block = granule === 12 ? level > 0 : level === 2 || (granule === 16 && level === 1 && this.oas === 52);
      if (!isTable && (level === 3 ? !has(descriptor, 1) : !block)) throw fail("F_TRANSLATION");
      if (!isTable) output &= ~(bit(shift) - 1n);
      if (exceeds(output, outputBits)) throw fail("F_ADDR_SIZE");
      if (!isTable) return { entry, at, descriptor, output: output | (input & (bit(shift) - 1n)) };
      above(descriptor);
      base = output;
    }
  }

  /** A start table, aligned to its size, which stage 2 may have of several tables. */
  #table(stage: 1 | 2, granule: number, bits: number, start: number, ttb: bigint, size: number): Table {
    const outputBits = Math.min(SIZES[size], this.oas);
    const index = bits - (granule + (3 - start) * (granule - 3));
    const align = Math.max(index + 3, outputBits === 52 ? 6 : 4);
    return { stage, granule, bits, start, base: ttb & ~(bit(align) - 1n), outputBits };
  }

  stage2(ipa: bigint, { need, want, privileged }: Request, cls: "CD" | "TT" | "IN"): Answer {
    const { ste } = this;
    const granule = GRANULES[ste.S2TG];
    const bits = 64 - ste.S2T0SZ;
    const start = granule === 12 ? [2, 1, 0, 3][ste.S2SL0] : 3 - ste.S2SL0;
    const fail = (ID: string, at = ipa, writable = false) =>
      new Failure(ID, 2, cls, at, writable, need.w && cls === "TT");
    if (exceeds(ipa, bits)) throw fail("F_TRANSLATION");
    const table = this.#table(2, granule, bits, start, ste.S2TTB, ste.S2PS);
    const {
      at,
      descriptor: d,
      output,
    } = this.#leaf(
      table,
      ipa,
      fail,
      (entry) => entry,
      () => {},
    );
    if (!has(d, 10) && !ste.S2HA && !ste.S2AFFD) throw fail("F_ACCESS");
    const clean = !has(d, 7) && ste.S2HA && ste.S2HD && has(d, 51);
    const x = [true, !privileged, false, privileged][Number((d >> 53n) & 3n)];
    const rights = { r: has(d, 6), w: has(d, 7) || clean, x };
    if (lacks(need, rights)) throw fail("F_PERMISSION", ipa, rights.w);
    const dirties = clean && want.w;
    this.#update(at, d | (ste.S2HA ? bit(10) : 0n) | (dirties ? bit(7) : 0n));
    // The flag is set by then: with a permission fault it may or may not be (3.13.2).
    const isDevice = ste.S2FWB ? !has(d, 4) : ((d >> 4n) & 3n) === 0n;
    if (cls !== "IN" && !need.w && ste.S2PTW && isDevice) throw fail("F_PERMISSION");
    return { pa: output, rights: { ...rights, w: rights.w && (!clean || dirties) } };
  }

  /** An address that the SMMU itself uses: an IPA where stage 2 translates. */
  #own(address: bigint, need: Rights, cls: "CD" | "TT"): bigint {
    return this.ste.Config === 7 ? this.stage2(address, { need, want: need, privileged: true }, cls).pa : address;
  }

  /** Where the CD is. */
  contextAt(): bigint {
    return this.#own(this.ste.S1ContextPtr, READ, "CD");
  }

  #stage1(va: bigint, request: Request): Answer {
    const { need, want, privileged } = request;
    const { cd } = this;
    const fail = (ID: string, at?: bigint) => new Failure(ID, 1, ID === "F_WALK_EABT" ? "TT" : "IN", at);
    const high = has(va, 55);
    const granule = high ? GRANULES1[cd.TG1] : GRANULES[cd.TG0];
    const bits = 64 - (high ? cd.T1SZ : cd.T0SZ);
    if (high ? this.el2 || cd.EPD1 : !this.el2 && cd.EPD0) throw fail("F_TRANSLATION");
    const input = (cd.TBI & (high ? 2 : 1)) !== 0 ? BigInt.asUintN(64, BigInt.asIntN(56, va)) : va;
    if (exceeds(high ? BigInt.asUintN(64, ~input) : input, bits)) throw fail("F_TRANSLATION");
    if (!this.el2 && !privileged && (high ? cd.E0PD1 : cd.E0PD0)) throw fail("F_TRANSLATION");
    let inherited = 0n;
    const start = 4 - Math.ceil((bits - granule) / (granule - 3));
    const {
      entry,
      at,
      descriptor: d,
      output,
    } = this.#leaf(
      this.#table(1, granule, bits, start, high ? cd.TTB1 : cd.TTB0, cd.IPS),
      input,
      fail,
      (address) => this.#own(address, READ, "TT"),
      (table) => {
        if (!(high ? cd.HAD1 : cd.HAD0)) inherited |= table;
      },
    );
    if (!has(d, 10) && !cd.HA && !cd.AFFD) throw fail("F_ACCESS");
    const readOnly = has(d, 7) || has(inherited, 62);
    const clean = has(d, 7) && !has(inherited, 62) && cd.HA && cd.HD && has(d, 51);
    const w = !readOnly || clean;
    const el0 = has(d, 6) && !has(inherited, 61);
    const mine = this.el2 || privileged || el0;
    const pan = !this.el2 && cd.PAN && privileged && el0;
    // Bit 54 is UXN, or XN where there is one level; 53 PXN. 60 and 59 are those of tables.
    const never =
      this.el2 || !privileged ? has(d, 54) || has(inherited, 60) : has(d, 53) || has(inherited, 59) || (el0 && w);
    const rights = { r: mine && !pan, w: mine && w && !pan, x: !never && !(cd.WXN && w && mine) };
    if (lacks(need, rights)) throw fail("F_PERMISSION");
    const dirties = clean && want.w && rights.w;
    const updated = (d | (cd.HA ? bit(10) : 0n)) & ~(dirties ? bit(7) : 0n);
    if (updated !== d) {
      this.#own(entry, UPDATE, "TT");
      // Stage 2 may have set a flag in this very descriptor: the exchange fails, and the walk is taken again.
      if (this.#load(at) !== d) return this.#stage1(va, request);
      this.#update(at, updated);
    }
    return { pa: output, rights: { ...rights, w: rights.w && (!clean || dirties) } };
  }

  /** Both stages as STE.Config has them; a Failure instead of an answer is thrown. */
  translate(va: bigint, request: Request): Answer {
    const { Config } = this.ste;
    this.reads.length = 0;
    this.contextReads = 0;
    if (Config === 6) {
      if (exceeds(va, this.oas)) throw new Failure("F_ADDR_SIZE", 1, "IN");
      return this.stage2(va, request, "IN");
    }
    this.contextAt();
    this.contextReads = this.reads.length;
    const { pa, rights } = this.#stage1(va, request);
    if (Config === 5) return { pa, rights };
    const { want } = request;
    const granted = { r: want.r && rights.r, w: want.w && rights.w, x: want.x && rights.x };
    if (!granted.r && !granted.w && !granted.x) return { pa, rights: NOTHING };
    const out = this.stage2(pa, { ...request, want: granted }, "IN");
    const both = { r: rights.r && out.rights.r, w: rights.w && out.rights.w, x: rights.x && out.rights.x };
    return { pa: out.pa, rights: both };
  }
}
