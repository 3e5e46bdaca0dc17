/** Compares what both sides said to a transfer. */
import { EVENTS } from "@iommukit/iommu-smmuv3";
import type { Outcome } from "./outcome.js";

/** Null when they agree; otherwise what differs, with the table entries that the model read. */
export function compareOutcome(outcome: Outcome): string | null {
  const mine = outcome.modelEvent;
  const theirs = outcome.qemuEvent;
  const problems: string[] = [];
  if (describe(mine) !== describe(theirs)) problems.push(`model ${describe(mine)}, QEMU ${describe(theirs)}`);
  if (outcome.expected !== null && outcome.got !== null && outcome.expected !== outcome.got.value) {
    problems.push(`bytes 0x${outcome.expected.toString(16)}, QEMU 0x${outcome.got.value.toString(16)}`);
  }
  if (problems.length === 0) return null;
  const reads = outcome.reads.map(({ table, value }) => `${table} 0x${value.toString(16)}`).join(", ");
  return `${outcome.write ? "write" : "read"} 0x${outcome.iova.toString(16)}: ${problems.join("; ")} (status ${outcome.status}, pa 0x${outcome.pa.toString(16)}; ${reads})`;
}

function describe(record: Int32Array | null): string {
  if (record === null) return "no event";
  const layout = EVENTS.get(record[0] & 0xff);
  if (layout === undefined) return `event 0x${(record[0] & 0xff).toString(16)}`;
  const fields = layout.decode(record);
  return Object.entries(fields)
    .filter(([name]) => name !== "PnU" && name !== "Reason")
    .map(
      ([name, value]) =>
        `${name}=${typeof value === "bigint" || typeof value === "number" ? `0x${value.toString(16)}` : value}`,
    )
    .join(" ");
}
