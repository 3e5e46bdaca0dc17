/** `npm run bench [-- --json] [--count N] [--case NAME]`: the models beside hand-written C, in one run, as ratios. */
import { parseArgs } from "node:util";
import { Baseline } from "./baseline.js";
import { type Arch, Machine } from "./machine.js";
import { CASES, type Case } from "./stream.js";
import { translate } from "./translate.js";

export interface Row {
  readonly case: string;
  readonly backend: Arch | "alternating";
  /** Millions of translations per second of CPU time. */
  readonly c: number;
  readonly model: number;
  readonly ratio: number;
}

const ARCHS: readonly Arch[] = ["smmuv3", "vtd"];

function measure(test: Case, count: number, baseline: Baseline): Row[] {
  const machine = new Machine(test.pages);
  baseline.load(machine);
  const row = (backend: Row["backend"], c: number, model: number): Row => ({
    case: test.name,
    backend,
    c,
    model,
    ratio: model / c,
  });
  const rows = ARCHS.map((arch) => {
    const c = baseline.run(machine, arch, test, count);
    const model = translate([machine.chip(arch, test.kind)], test, count);
    if (c.checksum !== model.checksum) throw new Error(`${test.name} ${arch}: C and the model translate differently`);
    return row(arch, c.rate, model.rate);
  });
  const both = translate(
    ARCHS.map((arch) => machine.chip(arch, test.kind)),
    test,
    count,
  );
  // Half of the requests each: the time of both baselines, added.
  rows.push(row("alternating", 2 / (1 / rows[0].c + 1 / rows[1].c), both.rate));
  return rows;
}

function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.case,
    row.backend,
    row.c.toFixed(1),
    row.model.toFixed(1),
    `${(row.ratio * 100).toFixed(0)} %`,
  ]);
  const lines = [["case", "backend", "C Mt/s", "model Mt/s", "of C"], ...cells];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines
    .map((line) => line.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  "))
    .join("\n");
}

const { values } = parseArgs({
  options: { json: { type: "boolean" }, count: { type: "string", default: "2000000" }, case: { type: "string" } },
});
const count = Number(values.count);
const cases = CASES.filter(({ name }) => values.case === undefined || name.includes(values.case));
if (!Number.isInteger(count) || count < 1000 || cases.length === 0) {
  console.error(
    `bench: --count takes a number from 1000 up, --case a part of: ${CASES.map(({ name }) => name).join(", ")}`,
  );
  process.exit(2);
}
const baseline = new Baseline();
try {
  const rows = cases.flatMap((test) => measure(test, count, baseline));
  console.log(values.json ? JSON.stringify({ translate: rows }, undefined, 2) : table(rows));
} finally {
  baseline.close();
}
