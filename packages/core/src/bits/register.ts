/** A register is a layout with an offset, a reset value and access rules per field. */
import { type AnyLayout, type FieldSpecs, type Layout, type LayoutHead, LayoutTable, withAccessors } from "./layout.js";

/** As LayoutHead, with the register's place. */
export interface RegisterHead extends LayoutHead {
  /** Byte offset from the start of the unit's register page. */
  readonly offset: number;
  readonly bits: 32 | 64;
}

/** A layout that has an offset, a reset value and what writes do, as masks; `register` makes it. */
export class RegisterTable<F extends FieldSpecs = FieldSpecs> extends LayoutTable<F> {
  readonly offset: number;
  /** Index of the first word in a register file. */
  readonly index: number;
  /** Reset value, one int32 per word. */
  readonly resetWords: readonly number[];
  /** Bits that a plain write changes, per word. */
  readonly writeMasks: readonly number[];
  /** Bits that are cleared, or set, by writing one. */
  readonly clearMasks: readonly number[];
  readonly setMasks: readonly number[];
  /** Bits that read as zero whatever they hold. */
  readonly hiddenMasks: readonly number[];

  constructor(
    readonly head: RegisterHead,
    readonly specs: F,
  ) {
    super(head, specs);
    if (head.offset % 4 !== 0)
      throw new Error(`${head.name}: offset 0x${head.offset.toString(16)} is not a multiple of 4`);
    this.offset = head.offset;
    this.index = head.offset >> 2;
    const reset = new Int32Array(this.words);
    const masks = {
      rw: new Int32Array(this.words),
      w1c: new Int32Array(this.words),
      w1s: new Int32Array(this.words),
      wo: new Int32Array(this.words),
    };
    for (const field of this.fields) {
      if (field.access === "res1") field.setPair(reset, 0, -1, -1);
      else if (field.spec.reset) field.set(reset, 0, field.spec.reset);
      if (field.access === "rw" || field.access === "wo") field.setPair(masks.rw, 0, -1, -1);
      if (field.access === "wo") field.setPair(masks.wo, 0, -1, -1);
      if (field.access === "w1c") field.setPair(masks.w1c, 0, -1, -1);
      if (field.access === "w1s") field.setPair(masks.w1s, 0, -1, -1);
    }
    this.resetWords = [...reset];
    this.writeMasks = [...masks.rw];
    this.clearMasks = [...masks.w1c];
    this.setMasks = [...masks.w1s];
    this.hiddenMasks = [...masks.wo];
  }
}

/** Any register, whatever its fields. */
export interface AnyRegister extends AnyLayout {
  readonly offset: number;
  readonly index: number;
  readonly resetWords: readonly number[];
  readonly writeMasks: readonly number[];
  readonly clearMasks: readonly number[];
  readonly setMasks: readonly number[];
  readonly hiddenMasks: readonly number[];
}

/** A register whose fields are properties: `CR0.SMMUEN.get(words, CR0.index)`. */
export type Register<F extends FieldSpecs = FieldSpecs> = Layout<F> & RegisterTable<F>;

/** @throws Error at load: as `layout`, or for an offset that is no multiple of 4 */
export function register<const F extends FieldSpecs>(head: RegisterHead, specs: F): Register<F> {
  return withAccessors(new RegisterTable(head, specs)) as unknown as Register<F>;
}

/** The same register at another place: banks whose offset a capability register gives, or the n-th of an array. */
export function relocated<F extends FieldSpecs>(
  original: Register<F>,
  offset: number,
  name = original.name,
): Register<F> {
  return register({ ...original.head, offset, name }, original.specs);
}
