/** Text from field tables: what an entry's bits mean, for people with a hex dump in hand. */
import type { Field } from "./field.js";
import type { AnyLayout } from "./layout.js";

/** A field of an entry that was taken apart, as `explain` lists it. */
export interface ExplainedField {
  readonly name: string;
  /** "63:59", or "4" for one bit. */
  readonly bits: string;
  readonly value: string;
  readonly meaning: string;
  readonly section: string;
}

/** "63:12", or "5" for a single bit. */
export function bitsOf(field: Field): string {
  return field.width === 1 ? `${field.lsb}` : `${field.msb}:${field.lsb}`;
}

/** One row per named field, and per reserved field that is not as it must be. Hex throughout. */
export function explainFields(table: AnyLayout, words: Int32Array, at = 0): ExplainedField[] {
  const rows: ExplainedField[] = [];
  for (const field of table.fields) {
    const raw = field.getBig(words, at);
    if (field.spec.kind === "reserved" && raw === 0n) continue;
    const name = field.spec.kind === "oneOf" ? field.nameOf(Number(raw)) : undefined;
    rows.push({
      name: field.name,
      bits: bitsOf(field),
      value: `0x${raw.toString(16)}${name === undefined ? "" : ` (${name})`}`,
      meaning: field.spec.meaning,
      section: field.spec.section ?? table.spec,
    });
  }
  return rows;
}

/** A field's value in few letters: "1", "0x100123000", "secondStage". */
export function shortValue(field: Field, words: Int32Array, at = 0): string {
  const raw = field.getBig(words, at);
  const name = field.spec.kind === "oneOf" ? field.nameOf(Number(raw)) : undefined;
  return name ?? (raw < 10n ? `${raw}` : `0x${raw.toString(16)}`);
}

/** The fields that are not zero, on one line: "V=1 ASID=5 TTB0=0x100123000", reserved ones too. */
export function fieldsSet(fields: readonly Field[], words: Int32Array, at = 0): string {
  return fields
    .filter((field) => field.getBig(words, at) !== 0n)
    .map((field) => `${field.name}=${shortValue(field, words, at)}`)
    .join(" ");
}

/** A header line and one aligned line per field: `  S1ContextPtr[55:6] = 0x…  CD table`. */
export function explain(table: AnyLayout, words: Int32Array, at = 0): string {
  const rows = explainFields(table, words, at);
  const label = (row: ExplainedField) => `${row.name}[${row.bits}]`;
  const width = Math.max(...rows.map((row) => label(row).length));
  const values = Math.max(...rows.map((row) => row.value.length));
  const lines = rows.map((row) =>
    `  ${label(row).padEnd(width)} = ${row.value.padEnd(values)}  ${row.meaning}`.trimEnd(),
  );
  return [`${table.name} (${table.spec})`, ...lines].join("\n");
}
