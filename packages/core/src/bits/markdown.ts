/** Register and table documentation, generated from the field tables. */
import { bitsOf } from "./explain.js";
import type { AnyLayout } from "./layout.js";
import { RegisterTable } from "./register.js";

/** One Markdown section per layout: name, section, and a row per field from bit 0 up. */
export function toMarkdown(table: AnyLayout): string {
  const place = table instanceof RegisterTable ? `, offset 0x${table.offset.toString(16)}` : "";
  const rows = table.fields.map((field) => {
    const { values, condition, meaning, needs = {} } = field.spec;
    const named = values
      ? ` (${Object.entries(values)
          .map(([name, value]) => `${value} ${name}`)
          .join(", ")})`
      : "";
    const absent = Object.entries(needs).map(([name, value]) => `${name}${said(value)}`);
    const exists = absent.length > 0 ? `; zero unless ${absent.join(" and ")}` : "";
    return `| ${bitsOf(field)} | ${field.spec.kind === "reserved" ? "" : `\`${field.name}\``} | ${field.access} | ${meaning}${named}${condition ? `; ${condition}` : ""}${exists} |`;
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

/** What a field has to say: nothing for anything but zero. */
function said(value: boolean | readonly number[]): string {
  return value === true ? "" : ` = ${value === false ? 0 : value.join(" or ")}`;
}
