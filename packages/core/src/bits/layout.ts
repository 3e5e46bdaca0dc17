/**
 * A layout is the one table of a structure: every field once, with its bits, meaning and section. Accessors, encode,
 * decode, explain and documentation all come from it. A table with an overlap, an unmarked gap or a field that leaves
 * the structure throws when it is loaded.
 */
import { Field, type FieldSpec, type FieldValue, fieldOf } from "./field.js";

/** What a table says of its structure as a whole. */
export interface LayoutHead {
  /** The specification's name: "STE", "CMD_SYNC", "PASID table entry". */
  readonly name: string;
  readonly bits: number;
  /** Document and section: "IHI0070 5.2". */
  readonly spec: string;
  readonly summary?: string;
}

/** The fields of a table by their names in the specification. */
export type FieldSpecs = Readonly<Record<string, FieldSpec>>;

type ValueOf<S> = S extends FieldSpec<infer V> ? V : never;

/** What `decode` gives: every field that is not reserved, by name. */
export type Decoded<F extends FieldSpecs> = { -readonly [K in keyof F]: ValueOf<F[K]> };
/** Input of `encode`: any subset of the fields, numbers welcome everywhere. */
export type Encodable<F extends FieldSpecs> = { readonly [K in keyof F]?: ValueOf<F[K]> | number | bigint | boolean };

/** What every table has beside one property for each field; `layout` makes it. */
export class LayoutTable<F extends FieldSpecs = FieldSpecs> {
  readonly name: string;
  readonly bits: number;
  readonly spec: string;
  readonly summary: string;
  /** Size in 32-bit words. */
  readonly words: number;
  readonly bytes: number;
  /** All fields, reserved ones too, from bit 0 up. */
  readonly fields: readonly Field[];

  constructor(head: LayoutHead, specs: F) {
    this.name = head.name;
    this.bits = head.bits;
    this.spec = head.spec;
    this.summary = head.summary ?? "";
    this.words = Math.ceil(head.bits / 32);
    this.bytes = head.bits / 8;
    this.fields = Object.entries(specs)
      .map(([name, spec]) => fieldOf(name, spec))
      .sort((a, b) => a.lsb - b.lsb);
    this.#check();
  }

  #check(): void {
    let next = 0;
    for (const field of this.fields) {
      const where = `${this.name}.${field.name} [${field.msb}:${field.lsb}]`;
      if (field.width < 1 || field.msb >= this.bits) throw new Error(`${where} leaves the ${this.bits}-bit layout`);
      if (field.lsb < next) throw new Error(`${where} overlaps bit ${next - 1}`);
      if (field.lsb > next)
        throw new Error(`${this.name}: bits ${field.lsb - 1}:${next} are in no field; mark them reserved`);
      if (field.spec.kind !== "reserved" && field.lsb >> 6 !== field.msb >> 6)
        throw new Error(`${where} crosses a 64-bit boundary`);
      for (const [name, value] of Object.entries(field.spec.values ?? {})) {
        if (value >= 2 ** field.width) throw new Error(`${where}: value ${name} = ${value} is wider than the field`);
      }
      next = field.msb + 1;
    }
    if (next !== this.bits)
      throw new Error(`${this.name}: bits ${this.bits - 1}:${next} are in no field; mark them reserved`);
  }

  /** Every named field; reserved bits are left out. */
  decode(words: Int32Array, at = 0): Decoded<F> {
    const out: Record<string, FieldValue> = {};
    for (const field of this.fields) {
      if (field.spec.kind !== "reserved") out[field.name] = field.decode(words, at);
    }
    return out as Decoded<F>;
  }

  /** A zeroed entry with the given fields set; writes into `into` at word `at` when given. */
  encode(values: Encodable<F>, into?: Int32Array, at = 0): Int32Array {
    into?.fill(0, at, at + this.words);
    return this.assign(into ?? new Int32Array(this.words), values, at);
  }

  /** Sets the given fields of an entry and leaves the others. */
  assign(words: Int32Array, values: Encodable<F>, at = 0): Int32Array {
    for (const name in values) {
      const value = values[name];
      if (value !== undefined) this.field(name).encode(words, at, value as FieldValue);
    }
    return words;
  }

  field(name: string): Field {
    const field = (this as unknown as Record<string, unknown>)[name];
    if (!(field instanceof Field)) throw new Error(`${this.name} has no field ${name}`);
    return field;
  }

  /** True when a reserved bit is not as the specification demands. */
  reservedViolated(words: Int32Array, at = 0): boolean {
    for (const field of this.fields) {
      if (field.spec.kind !== "reserved") continue;
      const ones = field.access === "res1";
      for (let bit = field.lsb; bit <= field.msb; bit++) {
        if (((words[at + (bit >> 5)] >>> (bit & 31)) & 1) !== (ones ? 1 : 0)) return true;
      }
    }
    return false;
  }
}

/** Any layout, whatever its fields: what explain and documentation need. */
export interface AnyLayout {
  readonly name: string;
  readonly bits: number;
  readonly spec: string;
  readonly summary: string;
  readonly words: number;
  readonly bytes: number;
  readonly fields: readonly Field[];
  decode(words: Int32Array, at?: number): Readonly<Record<string, FieldValue>>;
  field(name: string): Field;
  reservedViolated(words: Int32Array, at?: number): boolean;
}

/** A layout with one accessor per field under the specification's name: `STE.Config.get(words, at)`. */
export type Layout<F extends FieldSpecs = FieldSpecs> = LayoutTable<F> & {
  readonly [K in keyof F]: Field<ValueOf<F[K]>>;
};

/** @throws Error at load: fields overlap, leave bits unnamed, or leave the structure */
export function layout<const F extends FieldSpecs>(head: LayoutHead, specs: F): Layout<F> {
  return withAccessors(new LayoutTable(head, specs)) as unknown as Layout<F>;
}

/** Puts each field beside the table's own members; a field may not take a member's name. */
export function withAccessors<T extends AnyLayout>(table: T): T {
  for (const field of table.fields) {
    if (field.name in table) throw new Error(`${table.name}: a field cannot be called ${field.name}`);
    Object.defineProperty(table, field.name, { value: field, enumerable: true });
  }
  return table;
}
