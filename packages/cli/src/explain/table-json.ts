/** A field table as plain data, for programs in other languages: bit positions, access, reset values, names of values. */
import { bitsOf, type FieldSpec, hex, RegisterTable } from "@iommukit/core";
import type { NamedTable } from "./tables.js";

export interface TableJson {
  /** "smmuv3.STE": as `--as` takes it. */
  readonly name: string;
  readonly bits: number;
  readonly title: string;
  readonly section: string;
  readonly summary?: string;
  /** Of a register: byte offset from the start of its unit's page. */
  readonly offset?: string;
  /** From bit 0 up, without gaps. */
  readonly fields: readonly FieldJson[];
}

export interface FieldJson extends Pick<FieldSpec, "meaning" | "values" | "reset" | "section" | "condition" | "needs"> {
  readonly name: string;
  /** "63:12", "5". */
  readonly bits: string;
  readonly kind: FieldSpec["kind"];
  readonly access: string;
}

export function tableJson({ family, name, table }: NamedTable): TableJson {
  return {
    name: `${family}.${name}`,
    bits: table.bits,
    title: table.name,
    section: table.spec,
    summary: table.summary || undefined,
    offset: table instanceof RegisterTable ? hex(table.offset) : undefined,
    fields: table.fields.map((field) => {
      const { kind, meaning, values, reset, section, condition, needs } = field.spec;
      const bits = bitsOf(field);
      return { name: field.name, bits, kind, access: field.access, meaning, values, reset, section, condition, needs };
    }),
  };
}
