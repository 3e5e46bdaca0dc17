/** `npm run bench [-- --json] [--part translate|product|pieces|run] [--count N] [--case NAME]`; README.md says what is measured. */
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { Baseline } from "./baseline.js";
import { measure, type Row } from "./compare.js";
import { pieces } from "./pieces.js";
import { product } from "./product.js";
import { run } from "./run.js";
import { CASES } from "./stream.js";

function table(lines: readonly (readonly string[])[]): string {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const pad = (cell: string, i: number) => (i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]));
  return lines.map((line) => line.map(pad).join("  ")).join("\n");
}

const { values } = parseArgs({
  options: {
    json: { type: "boolean" },
    part: { type: "string" },
    count: { type: "string", default: "2000000" },
    case: { type: "string" },
  },
});
const count = Number(values.count);
const cases = CASES.filter(({ name }) => values.case === undefined || name.includes(values.case));
if (!Number.isInteger(count) || count < 1000 || cases.length === 0) {
  const names = CASES.map(({ name }) => name).join(", ");
  console.error(`bench: --count takes a number from 1000 up, --case a part of: ${names}`);
  process.exit(2);
}
const wanted = (part: string) =>
  values.part === undefined ? values.case === undefined || part === "translate" : values.part === part;
const translations = wanted("translate") ? compared() : [];
const operations = wanted("product") ? await product() : [];
const program = wanted("run") ? await run() : [];
const small = wanted("pieces") ? await pieces() : [];

function compared(): readonly Row[] {
  // Each case in a process of its own: what the compiler has learnt in one would be in the way of the next.
  if (cases.length > 1) return cases.flatMap(({ name }) => alone(name));
  const baseline = new Baseline();
  try {
    return measure(cases[0], count, baseline);
  } finally {
    baseline.close();
  }
}

function alone(name: string): readonly Row[] {
  const words = [process.argv[1], "--part", "translate", "--json", "--count", String(count), "--case", name];
  return JSON.parse(execFileSync(process.execPath, words, { encoding: "utf8" })).translate;
}

if (values.json) {
  const parts = { translate: translations, product: operations, pieces: small, run: program };
  console.log(JSON.stringify(parts, undefined, 2));
} else {
  const percent = (ratio: number) => `${(ratio * 100).toFixed(0)} %`;
  const rows = translations.map(({ case: name, backend, c, model, ratio, slowdown }) => [
    name,
    backend,
    c.toFixed(1),
    model.toFixed(1),
    percent(ratio),
    slowdown === undefined ? "" : `${slowdown.toFixed(1)}x`,
  ]);
  if (rows.length > 0) console.log(table([["case", "backend", "C Mt/s", "model Mt/s", "of C", "listening"], ...rows]));
  const times = operations.map((row) => [row.operation, row.backend, row.microseconds.toFixed(2)]);
  if (times.length > 0) console.log(table([["operation", "backend", "µs of CPU"], ...times]));
  const measured = program.map(({ operation, unit, value }) => [operation, unit, value.toFixed(1)]);
  if (measured.length > 0) console.log(table([["a program under iommukit run", "unit", ""], ...measured]));
  const costs = small.map(({ piece, nanoseconds }) => [piece, "", nanoseconds.toFixed(1)]);
  if (costs.length > 0) console.log(table([["piece", "", "ns"], ...costs]));
}
