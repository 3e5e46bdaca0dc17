/** Register and table documentation, generated from the field tables. */
import { bitsOf } from "./explain.js";
import type { AnyLayout } from "./layout.js";
import { RegisterTable } from "./register.js";

/** One Markdown section per layout: name, section, and a row per field from bit 0 up. */
export function toMarkdown(table: AnyLayout): string {
  const place = table instanceof RegisterTable ? `, offset 0x${table.offset.toString(16)}` : "";
  const rows = table.fields.map((field) => {
    const { values, condition, meaning } = field.spec;
    const named = values
      ? ` (${Object.entries(values)
          .map(([name, value]) => `${value} ${name}`)
          .join(", ")})`
      : "";
    return `| ${bitsOf(field)} | ${field.spec.kind === "reserved" ? "" : `\`${field.name}\``} | ${field.access} | ${meaning}${named}${condition ? `; ${condition}` : ""} |`;
  });
  return [
    `### ${table.name}`,
    "",
    `${table.bits} bits${place}, ${table.spec}.${table.summary ? ` ${table.summary}` : ""}`,
    "",
    "| bits | field | access | meaning |",
    "| --- | --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}
