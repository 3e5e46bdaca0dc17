/**
 * Configuration space of one function: 256 bytes of conventional PCI or 4 KiB of PCI Express, built from the field tables
 * of its header and capabilities. Access rules (RO, RW, RW1C, write-only, sticky, and which fields exist beside which others)
 * are the tables'; side effects are hooks.
 */
import {
  type AnyLayout,
  type Encodable,
  type Field,
  type FieldSpecs,
  type Layout,
  type PciBar,
  TYPE0_HEADER,
} from "@iommukit/core";

/** Runs after a write; `ones` are the bits of the dword that were written as one. */
export type ConfigHook = (ones: number) => void;
/** Bits of a dword that may change now. */
export type ConfigGuard = () => number;

/** What survives: nothing (power-on), sticky fields (hot reset), sticky fields and the link's setup (function level reset). */
export type ConfigReset = "cold" | "hot" | "function";

/** Fields that a function level reset leaves alone although they are not sticky: they belong to the link (PCIe 6.6.2). */
const KEPT_BY_FLR = new Set([
  "MaxPayloadSize",
  "ASPMControl",
  "ReadCompletionBoundary",
  "CommonClockConfiguration",
  "ExtendedSynch",
  "EnableClockPowerManagement",
]);

/** What a table says of its bits: reset values, who may change them, what they survive. Computed once. */
interface Shape {
  readonly defaults: Readonly<Record<string, number>>;
  readonly write: Int32Array;
  readonly clear: Int32Array;
  readonly sticky: Int32Array;
  readonly kept: Int32Array;
  /** Fields that exist only where others of the table say so. */
  readonly optional: readonly Optional[];
}

interface Optional {
  readonly field: Field;
  readonly exists: (words: Int32Array, at: number) => boolean;
}

function optionalFields(table: AnyLayout): Optional[] {
  return table.fields.flatMap((field) => {
    const { needs } = field.spec;
    if (needs === undefined) return [];
    const terms = Object.entries(needs).map(([name, wanted]) => {
      // What a shorter version of the structure does not have says 0.
      const other = table.fields.find((each) => each.name === name);
      const holds = (value: number) =>
        typeof wanted === "boolean" ? (value !== 0) === wanted : wanted.includes(value);
      return (words: Int32Array, at: number) => holds(other?.get(words, at) ?? 0);
    });
    return [{ field, exists: (words, at) => terms.every((term) => term(words, at)) }];
  });
}

const SHAPES = new WeakMap<AnyLayout, Shape>();

function shapeOf(table: AnyLayout): Shape {
  const known = SHAPES.get(table);
  if (known !== undefined) return known;
  const mask = (has: (field: Field) => boolean) => {
    const words = new Int32Array(table.words);
    for (const field of table.fields) if (has(field)) field.setPair(words, 0, -1, -1);
    return words;
  };
  const shape: Shape = {
    defaults: Object.fromEntries(table.fields.flatMap(({ name, spec }) => (spec.reset ? [[name, spec.reset]] : []))),
    write: mask(({ access }) => access === "rw"),
    clear: mask(({ access }) => access === "w1c"),
    sticky: mask(({ spec }) => spec.sticky === true),
    kept: mask(({ spec, name }) => spec.sticky === true || KEPT_BY_FLR.has(name)),
    optional: optionalFields(table),
  };
  SHAPES.set(table, shape);
  return shape;
}

const CAPABILITIES = 0x40;
const EXTENDED = 0x100;
const CAPABILITIES_POINTER = 0x34;

/** `device.config`. */
export class ConfigSpace {
  readonly words: Int32Array;
  readonly #reset: Int32Array;
  readonly #write: Int32Array;
  readonly #clear: Int32Array;
  readonly #sticky: Int32Array;
  readonly #kept: Int32Array;
  readonly #hooks = new Map<number, ConfigHook[]>();
  readonly #guards = new Map<number, ConfigGuard>();
  readonly #beforeRead = new Map<number, () => void>();
  #next = CAPABILITIES;
  #last = 0;
  #nextExtended = EXTENDED;
  #lastExtended = 0;

  constructor(readonly size: 256 | 4096) {
    const words = size / 4;
    this.words = new Int32Array(words);
    this.#reset = new Int32Array(words);
    this.#write = new Int32Array(words);
    this.#clear = new Int32Array(words);
    this.#sticky = new Int32Array(words);
    this.#kept = new Int32Array(words);
  }

  /** Lays a structure at byte offset `at` with the given reset values; fields without one take their table's. */
  place<F extends FieldSpecs>(table: Layout<F>, at: number, values: Encodable<F> = {}): void {
    const index = at / 4;
    const shape = shapeOf(table as unknown as AnyLayout);
    table.encode({ ...shape.defaults, ...values } as Encodable<F>, this.#reset, index);
    for (let word = 0; word < table.words; word++) {
      this.words[index + word] = this.#reset[index + word];
      this.#write[index + word] |= shape.write[word];
      this.#clear[index + word] |= shape.clear[word];
      this.#sticky[index + word] |= shape.sticky[word];
      this.#kept[index + word] |= shape.kept[word];
    }
    for (const { field, exists } of shape.optional)
      if (!exists(this.#reset, index)) field.setPair(this.#write, index, 0, 0);
  }

  /** Appends a capability to the list, at the next free offset unless told. @returns its byte offset */
  add<F extends FieldSpecs>(table: Layout<F>, id: number, values: Encodable<F>, at = this.#next): number {
    const end = Math.ceil((at + table.bytes) / 4) * 4;
    if (end > EXTENDED) throw new RangeError(`${table.name} does not fit below 0x100`);
    this.#next = Math.max(this.#next, end);
    this.place(table, at, { ...values, CapabilityID: id } as unknown as Encodable<F>);
    if (this.#last === 0) {
      this.#preset(CAPABILITIES_POINTER / 4, at);
      TYPE0_HEADER.CapabilitiesList.set(this.words, 0, 1);
      TYPE0_HEADER.CapabilitiesList.set(this.#reset, 0, 1);
    } else this.#preset(this.#last / 4, at << 8);
    this.#last = at;
    return at;
  }

  /** Appends an extended capability to the list. The first one stands at 0x100. @returns its byte offset */
  addExtended<F extends FieldSpecs>(
    table: Layout<F>,
    id: number,
    values: Encodable<F>,
    version = 1,
    at = this.#nextExtended,
  ): number {
    this.#nextExtended = Math.max(this.#nextExtended, Math.ceil((at + table.bytes) / 16) * 16);
    if (this.#nextExtended > this.size) throw new RangeError(`${table.name} does not fit in ${this.size} bytes`);
    this.place(table, at, { ...values, CapabilityID: id, CapabilityVersion: version } as unknown as Encodable<F>);
    if (this.#lastExtended !== 0) this.#preset(this.#lastExtended / 4, at << 20);
    this.#lastExtended = at;
    return at;
  }

  /** A base address register: writing ones and reading back tells its size. @param index word index */
  placeBar(index: number, bar: PciBar): void {
    const low = bar.kind === "io" ? 1 : (bar.kind === "mem64" ? 4 : 0) | (bar.prefetchable ? 8 : 0);
    this.#preset(index, low);
    this.#write[index] = bar.size >= 2 ** 32 ? 0 : -bar.size;
    if (bar.kind === "mem64") this.#write[index + 1] = bar.size > 2 ** 32 ? -(bar.size / 2 ** 32) : -1;
  }

  /** The expansion ROM's address register: bit 0 enables its decoder. */
  placeRom(index: number, size: number): void {
    this.#write[index] = -size | 1;
  }

  /** A base address register that does not exist reads as zero. */
  removeBar(index: number): void {
    this.#write[index] = 0;
  }

  /** Fields of the structure at byte offset `at` that have these values, whatever the table says, and keep them. */
  hardwire<F extends FieldSpecs>(table: Layout<F>, at: number, values: Readonly<Record<string, number>>): void {
    for (const [name, value] of Object.entries(values)) {
      const field = table.field(name);
      field.set(this.words, at / 4, value);
      field.set(this.#reset, at / 4, value);
      field.setPair(this.#write, at / 4, 0, 0);
    }
  }

  /** Bits of the dword at `at` that software cannot change, whatever the table says. */
  lock(at: number, bits: number): void {
    this.#write[at >> 2] &= ~bits;
  }

  #preset(index: number, bits: number): void {
    this.words[index] |= bits;
    this.#reset[index] |= bits;
  }

  onWrite(at: number, hook: ConfigHook): void {
    const hooks = this.#hooks.get(at >> 2);
    if (hooks) hooks.push(hook);
    else this.#hooks.set(at >> 2, [hook]);
  }

  /** For bits whose value is computed. */
  beforeRead(at: number, hook: () => void): void {
    this.#beforeRead.set(at >> 2, hook);
  }

  guard(at: number, guard: ConfigGuard): void {
    this.#guards.set(at >> 2, guard);
  }

  /** All ones beyond the end: nothing answers there. */
  read(offset: number, width: 1 | 2 | 4): number {
    const ones = width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
    if (offset < 0 || offset + width > this.size) return ones;
    this.#beforeRead.get(offset >> 2)?.();
    return ((this.words[offset >> 2] >>> (8 * (offset & 3))) & ones) >>> 0;
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    if (offset < 0 || offset + width > this.size) return;
    const index = offset >> 2;
    const shift = 8 * (offset & 3);
    const lanes = width === 4 ? -1 : ((1 << (8 * width)) - 1) << shift;
    const ones = (value << shift) & lanes;
    const allowed = lanes & (this.#guards.get(index)?.() ?? -1);
    const write = this.#write[index] & allowed;
    this.words[index] = ((this.words[index] & ~write) | (ones & write)) & ~(ones & this.#clear[index] & allowed);
    for (const hook of this.#hooks.get(index) ?? []) hook(ones);
  }

  reset(kind: ConfigReset): void {
    for (let i = 0; i < this.words.length; i++) {
      const keep = kind === "cold" ? 0 : kind === "hot" ? this.#sticky[i] : this.#kept[i];
      this.words[i] = (this.words[i] & keep) | (this.#reset[i] & ~keep);
    }
  }
}
