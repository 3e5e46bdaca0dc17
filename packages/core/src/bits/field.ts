/**
 * One field of a register, table entry, command or record: where its bits are and what they mean.
 * Values live in little-endian 32-bit words on an `Int32Array`; nothing on the access path allocates or uses bigint.
 */
import { hi32, join64, lo32, TWO32 } from "../memory/address.js";

/** Who may change a field, seen from software. `res0`/`res1` are reserved and read as zero or one. */
export type FieldAccess = "rw" | "ro" | "w1c" | "w1s" | "wo" | "res0" | "res1";

/** What `bit`, `uint`, `oneOf`, `addr` and `reserved` make. */
export type FieldKind = "bit" | "uint" | "oneOf" | "addr" | "reserved";

/** What a field decodes to: bit → boolean, oneOf → name (number when unnamed), uint → number, wider than 53 bits → bigint. */
export type FieldValue = boolean | number | bigint | string;

/** What a field may have besides bits and a meaning. */
export interface FieldOptions {
  readonly access?: FieldAccess;
  /** Value after reset; 0 when absent. */
  readonly reset?: number;
  /** Section of the specification when it differs from the layout's. */
  readonly section?: string;
  /** When the field exists or is used, in words of the specification ("IDR0.HTTU >= 1"). */
  readonly condition?: string;
  /**
   * What other fields of the table have to say for this one to exist; elsewhere it is hardwired to zero. By name: true for any
   * value but 0, false for 0, or the values.
   */
  readonly needs?: Readonly<Record<string, boolean | readonly number[]>>;
  /** Keeps its value over a hot reset and a function level reset (PCIe's ROS, RWS and RW1CS). */
  readonly sticky?: boolean;
}

/** A field as a table declares it: `msb` and `lsb` count from bit 0 of the whole structure. */
export interface FieldSpec<V extends FieldValue = FieldValue> extends FieldOptions {
  readonly kind: FieldKind;
  readonly msb: number;
  readonly lsb: number;
  readonly meaning: string;
  readonly values?: Readonly<Record<string, number>>;
  /** Carries the decoded type only; never present at run time. */
  readonly value?: V;
}

/** One bit: decodes to a boolean. */
export function bit(lsb: number, meaning: string, options: FieldOptions = {}): FieldSpec<boolean> {
  return { kind: "bit", msb: lsb, lsb, meaning, ...options };
}

/** Bits `msb` to `lsb` as an unsigned number, right-aligned; wider than 53 bits it decodes to a bigint. */
export function uint(msb: number, lsb: number, meaning: string, options: FieldOptions = {}): FieldSpec<number> {
  return { kind: "uint", msb, lsb, meaning, ...options };
}

/** An enumeration. Values without a name decode to their number. */
export function oneOf<const T extends Record<string, number>>(
  msb: number,
  lsb: number,
  values: T,
  meaning: string,
  options: FieldOptions = {},
): FieldSpec<(keyof T & string) | number> {
  return { kind: "oneOf", msb, lsb, values, meaning, ...options };
}

/** An address whose bits stand in place: its value is the address, low bits zero. */
export function addr(
  msb: number,
  lsb: number,
  meaning: string,
  options: FieldOptions = {},
): FieldSpec<number | bigint> {
  return { kind: "addr", msb, lsb, meaning, ...options };
}

/** Bits that the specification reserves: RES0 unless told otherwise. */
export function reserved(msb: number, lsb: number = msb, options: FieldOptions = {}): FieldSpec<number> {
  return { kind: "reserved", msb, lsb, meaning: "reserved", access: "res0", ...options };
}

/** Mask of `width` low bits as an int32, 0 < width <= 32. */
export function maskOf(width: number): number {
  return width >= 32 ? -1 : (1 << width) - 1;
}

/**
 * Accessors of one field, compiled from its spec. `at` is the index of the entry's first word.
 * `hi`/`lo` give the value as two int32 halves: the hot path of 64-bit fields.
 */
export abstract class Field<V extends FieldValue = FieldValue> {
  readonly msb: number;
  readonly lsb: number;
  readonly width: number;
  readonly access: FieldAccess;
  /** Index of the word that holds the field's lowest bit. */
  readonly word: number;
  /** Shift of the lowest bit inside that word. */
  readonly shift: number;
  /** Bits of the entry's words that belong to the field: in the low word and in the one after it. */
  readonly lowMask: number;
  readonly highMask: number;
  /** Values of the field are below this, and multiples of that; numbers are exact up to 2^53. */
  readonly #limit: number;
  readonly #unit: number;
  readonly #names: ReadonlyMap<number, string>;

  constructor(
    readonly name: string,
    readonly spec: FieldSpec<V>,
  ) {
    this.msb = spec.msb;
    this.lsb = spec.lsb;
    this.width = spec.msb - spec.lsb + 1;
    this.access = spec.access ?? "rw";
    this.word = spec.lsb >> 5;
    this.shift = spec.lsb & 31;
    const wide = isWide(spec);
    this.lowMask = wide ? -1 << this.shift : maskOf(this.width) << this.shift;
    this.highMask = wide ? maskOf((spec.msb & 31) + 1) : 0;
    const address = spec.kind === "addr";
    this.#limit = 2 ** Math.min(53, address ? (spec.msb & 63) + 1 : this.width);
    this.#unit = address ? 2 ** (spec.lsb & 63) : 1;
    this.#names = new Map(Object.entries(spec.values ?? {}).map(([name, value]) => [value, name]));
  }

  /** The value as a number: exact to 53 bits. An `addr` field keeps its bits in place. */
  get(words: Int32Array, at = 0): number {
    return this.hi(words, at) * TWO32 + (this.lo(words, at) >>> 0);
  }

  /** Low 32 bits of the value. */
  abstract lo(words: Int32Array, at?: number): number;

  /** Bits 63:32 of the value. */
  abstract hi(words: Int32Array, at?: number): number;

  /** Stores two int32 halves. Bits outside the field are dropped (an `addr` field's low bits, for instance). */
  abstract setPair(words: Int32Array, at: number, hi: number, lo: number): void;

  getBig(words: Int32Array, at = 0): bigint {
    return join64(this.hi(words, at), this.lo(words, at));
  }

  /** Stores a value given as a number; throws a RangeError when it does not fit the field. */
  set(words: Int32Array, at: number, value: number): void {
    // Exact and in range: two halves, without a detour over bigint.
    if (value >= 0 && value < this.#limit && value % this.#unit === 0)
      this.setPair(words, at, Math.floor(value / TWO32) | 0, value | 0);
    else this.setBig(words, at, BigInt(value));
  }

  setBig(words: Int32Array, at: number, value: bigint): void {
    const pattern = value < 0n ? BigInt.asUintN(this.width, value) : value;
    const { kind, lsb, msb } = this.spec;
    const low = kind === "addr" ? BigInt(lsb & 63) : 0n;
    const top = kind === "addr" ? BigInt((msb & 63) + 1) : BigInt(this.width);
    if (pattern >> top !== 0n || (pattern >> low) << low !== pattern) {
      throw new RangeError(`${this.name}: 0x${value.toString(16)} does not fit bits ${msb}:${lsb}`);
    }
    this.setPair(words, at, hi32(pattern), lo32(pattern));
  }

  /** Name of an enumeration's value; undefined when the specification gives it none. */
  nameOf(value: number): string | undefined {
    return this.#names.get(value);
  }

  decode(words: Int32Array, at = 0): V {
    const { kind, msb } = this.spec;
    if (kind === "bit") return (this.get(words, at) === 1) as V;
    if (kind === "oneOf") {
      const value = this.get(words, at);
      return (this.#names.get(value) ?? value) as V;
    }
    const exact = kind === "addr" ? (msb & 63) <= 52 : this.width <= 53;
    return (exact ? this.get(words, at) : this.getBig(words, at)) as V;
  }

  encode(words: Int32Array, at: number, value: FieldValue): void {
    if (typeof value === "bigint") this.setBig(words, at, value);
    else this.set(words, at, this.#toNumber(value));
  }

  #toNumber(value: boolean | number | string): number {
    if (typeof value !== "string") return Number(value);
    const named = this.spec.values?.[value];
    if (named === undefined) throw new RangeError(`${this.name}: no value is named "${value}"`);
    return named;
  }
}

function isWide({ msb, lsb }: FieldSpec): boolean {
  return msb >> 5 !== lsb >> 5;
}

/** A field inside one word. Most are: this is what table entries are decoded with. */
class WordField<V extends FieldValue> extends Field<V> {
  override get(words: Int32Array, at = 0): number {
    return (words[at + this.word] & this.lowMask) >>> this.shift;
  }

  override lo(words: Int32Array, at = 0): number {
    return ((words[at + this.word] & this.lowMask) >>> this.shift) | 0;
  }

  override hi(): number {
    return 0;
  }

  override setPair(words: Int32Array, at: number, _hi: number, lo: number): void {
    const index = at + this.word;
    words[index] = (words[index] & ~this.lowMask) | ((lo << this.shift) & this.lowMask);
  }
}

/** A field that goes on in the next word. */
class WideField<V extends FieldValue> extends Field<V> {
  override lo(words: Int32Array, at = 0): number {
    const low = words[at + this.word] & this.lowMask;
    const high = words[at + this.word + 1] & this.highMask;
    return this.shift === 0 ? low : (low >>> this.shift) | (high << (32 - this.shift));
  }

  override hi(words: Int32Array, at = 0): number {
    return (words[at + this.word + 1] & this.highMask) >>> this.shift;
  }

  override setPair(words: Int32Array, at: number, hi: number, lo: number): void {
    const index = at + this.word;
    words[index] = (words[index] & ~this.lowMask) | ((lo << this.shift) & this.lowMask);
    const high = this.shift === 0 ? hi : (lo >>> (32 - this.shift)) | (hi << this.shift);
    words[index + 1] = (words[index + 1] & ~this.highMask) | (high & this.highMask);
  }
}

/** An address, whose bits stand in place: from either word of a 64-bit entry on. */
class AddressField<V extends FieldValue> extends Field<V> {
  override lo(words: Int32Array, at = 0): number {
    return (this.word & 1) !== 0 ? 0 : words[at + this.word] & this.lowMask;
  }

  override hi(words: Int32Array, at = 0): number {
    const { word } = this;
    if ((word & 1) !== 0) return words[at + word] & this.lowMask;
    return this.highMask === 0 ? 0 : words[at + word + 1] & this.highMask;
  }

  override setPair(words: Int32Array, at: number, hi: number, lo: number): void {
    const index = at + this.word;
    const low = (this.word & 1) !== 0 ? hi : lo;
    words[index] = (words[index] & ~this.lowMask) | (low & this.lowMask);
    if (this.highMask !== 0) words[index + 1] = (words[index + 1] & ~this.highMask) | (hi & this.highMask);
  }
}

/** The accessors of a field, of the kind that its place needs: inside of one word, or over two. */
export function fieldOf<V extends FieldValue>(name: string, spec: FieldSpec<V>): Field<V> {
  if (spec.kind === "addr") return new AddressField(name, spec);
  return isWide(spec) ? new WideField(name, spec) : new WordField(name, spec);
}
