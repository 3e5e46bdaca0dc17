/** What explain makes of a piece of input: one record for each fault, command, table entry, register or capability. */
import { type AnyLayout, bitsOf, type ExplainedField, explainFields } from "@iommukit/core";
import { hex } from "./hex.js";

/** What the rules about causes, the filters and the walk want to know; undefined where the input does not say. */
export interface Facts {
  readonly iommu?: "vtd" | "smmuv3" | "smmuv2" | "amd-vi";
  /** Fault reason or event number. */
  readonly code?: number;
  /** The specification's name for it, or Linux's. */
  readonly name?: string;
  /** dddd:bb:dd.f */
  readonly device?: string;
  /** StreamID or source-id. */
  readonly sid?: number;
  /** Undefined: a request without PASID. */
  readonly pasid?: number;
  readonly address?: bigint;
  readonly access?: "read" | "write" | "execute" | "atomic";
  readonly privileged?: boolean;
  /** A blocked interrupt, not a memory access. */
  readonly interrupt?: boolean;
  readonly stage?: 1 | 2;
  /** The translation exists and does not allow the access; undefined where the fault does not distinguish that. */
  readonly permission?: boolean;
}

/** Words behind a record, taken apart by one field table. */
export interface Part {
  readonly table: string;
  readonly section: string;
  /** 64-bit words (32-bit where the table is), lowest first. */
  readonly words: readonly string[];
  /** Named fields; reserved bits that are set stand in the record's notes. */
  readonly fields: readonly ExplainedField[];
}

export interface ExplainRecord {
  readonly kind: string;
  /** Number of its first line. */
  readonly line: number;
  readonly summary: string;
  /** The input as it was. */
  readonly raw: readonly string[];
  readonly facts: Facts;
  readonly parts: readonly Part[];
  /** What the reader has to know: reserved bits that are set, words that are missing, texts that disagree. */
  readonly notes: readonly string[];
}

/** Fields are made into text only when somebody looks: most records of a long log are printed as one line. */
class DecodedPart implements Part {
  readonly table: string;
  readonly section: string;

  constructor(
    private readonly layout: AnyLayout,
    private readonly data: Int32Array,
    private readonly present: number,
  ) {
    this.table = layout.name;
    this.section = layout.spec;
  }

  get words(): string[] {
    return wordTexts(this.data, 0, Math.min(this.present, this.layout.bits));
  }

  get fields(): ExplainedField[] {
    return explainFields(this.layout, this.data).filter(({ name }) => {
      const field = this.layout.field(name);
      return field.spec.kind !== "reserved" && field.msb < this.present;
    });
  }

  toJSON(): Part {
    return { table: this.table, section: this.section, words: this.words, fields: this.fields };
  }
}

/** @param present bits that are there when the input is shorter than the table */
export function partOf(table: AnyLayout, words: Int32Array, at = 0, present = table.bits): Part {
  return new DecodedPart(table, words.subarray(at), present);
}

export function wordTexts(words: Int32Array, at: number, bits: number): string[] {
  if (bits <= 32) return [hex(words[at] >>> 0, Math.ceil(bits / 4))];
  return Array.from({ length: Math.ceil(bits / 64) }, (_, n) => hex(quad(words, at + 2 * n), 16));
}

export function quad(words: Int32Array, at: number): bigint {
  return (BigInt((words[at + 1] ?? 0) >>> 0) << 32n) | BigInt(words[at] >>> 0);
}

/** Little-endian 32-bit words of 64-bit ones. */
export function wordsOf(quads: readonly bigint[]): Int32Array {
  const words = new Int32Array(quads.length * 2);
  for (const [n, value] of quads.entries()) {
    words[2 * n] = Number(value & 0xffff_ffffn) | 0;
    words[2 * n + 1] = Number((value >> 32n) & 0xffff_ffffn) | 0;
  }
  return words;
}

/** A note for each reserved field that is not zero: such a record is from newer hardware, or is not what it is taken for. */
export function reservedNotes(table: AnyLayout, words: Int32Array, at = 0): string[] {
  const notes: string[] = [];
  for (const field of table.fields) {
    if (field.spec.kind !== "reserved" || field.access === "res1") continue;
    const value = bitsBetween(words, at, field.msb, field.lsb);
    if (value !== 0n)
      notes.push(
        `${table.name}: reserved ${field.width === 1 ? "bit" : "bits"} ${bitsOf(field)} ${field.width === 1 ? "is set" : `hold ${hex(value)}`}`,
      );
  }
  return notes;
}

/** Reserved fields can be wider than a field's accessors go. */
function bitsBetween(words: Int32Array, at: number, msb: number, lsb: number): bigint {
  let value = 0n;
  for (let word = lsb >> 5; word <= msb >> 5; word++) {
    const low = Math.max(lsb - word * 32, 0);
    const high = Math.min(msb - word * 32, 31);
    const bits = (((words[at + word] ?? 0) >>> low) << (31 - high + low)) >>> (31 - high + low);
    if (bits !== 0) value |= BigInt(bits) << BigInt(word * 32 + low - lsb);
  }
  return value;
}
