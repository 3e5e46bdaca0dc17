/** dmar_translation_struct as Linux 4.20 and 5.0 print it: each bus, then its context entries, words without leading zeros. */
import { expect, it } from "vitest";
import { Explainer } from "../../src/explain/explainer.js";
import type { ExplainRecord } from "../../src/explain/record.js";

it("the context entries below a bus belong to that bus's root entry", () => {
  const records: ExplainRecord[] = [];
  const explainer = new Explainer((record) => records.push(record));
  for (const line of [
    "IOMMU dmar0: Root Table Address:42a5e9000",
    "Root Table Entries:",
    " Bus: 0 H: 0 L: 42a5ea001",
    " Context Table Entries for Bus: 0",
    "  Entry\tB:D.F\tHigh\tLow",
    "  16   \t00:02.0\t102   \t42a5eb005",
    "  160  \t00:14.0\t202   \t42a5ec001",
    "",
    " Bus: 3 H: 0 L: 42a5ed001",
    "  0    \t03:00.0\t302   \t42a5ee001",
  ])
    explainer.line(line);
  explainer.end();
  const rows = records.filter(({ kind }) => kind === "vtd.tables");
  expect(rows.map(({ facts }) => facts.device)).toEqual(["0000:00:02.0", "0000:00:14.0", "0000:03:00.0"]);
  expect(rows.map(({ parts }) => parts[0].words[0])).toEqual([
    "0x000000042a5ea001",
    "0x000000042a5ea001",
    "0x000000042a5ed001",
  ]);
  expect(rows.map(({ summary }) => /domain-id (\S+),/.exec(summary)?.[1])).toEqual(["0x1", "0x2", "0x3"]);
});
