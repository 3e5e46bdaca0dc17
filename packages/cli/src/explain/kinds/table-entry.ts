/** One entry of VT-d's tables as a hypervisor or kernel prints it while it walks. */
import type { AnyLayout } from "@iommukit/core";
import { hex } from "../hex.js";
import type { Line } from "../recogniser.js";
import { type ExplainRecord, partOf, reservedNotes, wordsOf } from "../record.js";

/** Any of these makes an entry present; a scalable-mode root entry has one for each half of the bus. */
const PRESENT: ReadonlySet<string> = new Set(["P", "R", "W", "LP", "UP"]);

/** @param quads lowest first; fewer than the table has when the rest is not printed */
export function tableEntry(
  line: Line,
  where: string,
  table: AnyLayout,
  quads: readonly bigint[],
  raw: readonly string[] = [line.text],
): ExplainRecord {
  const bits = Math.min(table.bits, quads.length * 64);
  const words = new Int32Array(Math.max(table.words, quads.length * 2));
  words.set(wordsOf(quads));
  const present = table.fields.some(
    (field) => field.spec.kind === "bit" && PRESENT.has(field.name) && field.get(words) === 1,
  );
  return {
    kind: "vtd.table-entry",
    line: line.number,
    raw,
    summary: `${table.name}  ${where} = ${quads.map((value) => hex(value, 16)).join(" ")}  ${present ? "present" : "not present: the walk stops here"}`,
    facts: { iommu: "vtd" },
    parts: [partOf(table, words, 0, bits)],
    notes: reservedNotes(table, words),
  };
}
