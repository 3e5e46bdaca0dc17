/** `npm run bench [-- --json] [--part NAME] [--count N] [--case NAME] [--backend NAME]`; README.md says what is measured. */
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { Baseline } from "./baseline.js";
import { measure, type Row, SUBJECTS } from "./compare.js";
import { memory } from "./memory.js";
import { pieces } from "./pieces.js";
import { product } from "./product.js";
import { replay } from "./replay.js";
import { run } from "./run.js";
import { scale } from "./scale.js";
import { CASES } from "./stream.js";

/** What a part measures, and its rows as the columns of a table. */
interface Part<T> {
  readonly head: readonly string[];
  readonly measure: () => readonly T[] | Promise<readonly T[]>;
  readonly columns: (row: T) => readonly string[];
}

function part<T>(of: Part<T>): Part<T> {
  return of;
}

const PARTS = {
  translate: part({
    head: ["case", "backend", "C Mt/s", "model Mt/s", "of C", "listening"],
    measure: translations,
    columns: ({ case: name, backend, c, model, ratio, slowdown }: Row) => [
      name,
      backend,
      c.toFixed(1),
      model.toFixed(1),
      `${(ratio * 100).toFixed(0)} %`,
      slowdown === undefined ? "" : `${slowdown.toFixed(1)}x`,
    ],
  }),
  product: part({
    head: ["operation", "backend", "µs of CPU"],
    measure: () => product(),
    columns: ({ operation, backend, microseconds }) => [operation, backend, microseconds.toFixed(2)],
  }),
  pieces: part({
    head: ["piece", "", "ns"],
    measure: () => pieces(),
    columns: ({ piece, nanoseconds }) => [piece, "", nanoseconds.toFixed(1)],
  }),
  replay: part({
    head: ["trace", "events", "events/s", "per s of CPU", "text", "smmuv3", "vtd", "MB"],
    measure: () => replay(),
    columns: ({ trace, events, elapsed, cpu, text, smmuv3, vtd, megabytes }) =>
      [trace, events, elapsed, cpu, text, smmuv3, vtd, megabytes].map(String),
  }),
  run: part({
    head: ["a program under iommukit run", "unit", ""],
    measure: () => run(),
    columns: ({ operation, unit, value }) => [operation, unit, value.toFixed(1)],
  }),
  scale: part({
    head: ["operation", "beside", "size", "ns of CPU"],
    measure: () => scale(),
    columns: ({ operation, unit, size, nanoseconds }) => [operation, unit, String(size), nanoseconds.toFixed(0)],
  }),
  memory: part({
    head: ["one more", "backend", "bytes of heap", "bytes of RAM"],
    measure: () => memory(),
    columns: ({ what, backend, heap, ram }) => [what, backend, heap.toFixed(0), ram.toFixed(0)],
  }),
};

function table(lines: readonly (readonly string[])[]): string {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const pad = (cell: string, i: number) => (i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]));
  return lines.map((line) => line.map(pad).join("  ")).join("\n");
}

/** Of which the middle one counts. */
const PROCESSES = 3;

const values = parse();
const count = Number(values.count);
const cases = CASES.filter(({ name }) => values.case === undefined || name.includes(values.case));
const subjects = SUBJECTS.filter((subject) => values.backend === undefined || subject === values.backend);
const all = values.case === undefined ? Object.keys(PARTS) : ["translate"];
const names = values.part === undefined ? all : [values.part];
if (!Number.isInteger(count) || count < 1000) refuse("--count takes a number from 1000 up");
if (cases.length === 0) refuse(`--case takes a part of: ${CASES.map(({ name }) => name).join(", ")}`);
if (subjects.length === 0) refuse(`--backend takes one of: ${SUBJECTS.join(", ")}`);
if (!names.every((name) => Object.hasOwn(PARTS, name))) refuse(`--part takes one of: ${Object.keys(PARTS).join(", ")}`);

function parse() {
  const string = { type: "string" } as const;
  const count = { type: "string", default: "2000000" } as const;
  try {
    return parseArgs({ options: { json: { type: "boolean" }, part: string, count, case: string, backend: string } })
      .values;
  } catch (error) {
    return refuse((error as Error).message.replaceAll(/\s*\n\s*/g, " "));
  }
}

/** What the caller got wrong: one line, exit status 2. */
function refuse(reason: string): never {
  console.error(`bench: ${reason}`);
  process.exit(2);
}

function translations(): readonly Row[] {
  // Each in a process of its own: what the compiler has learnt in one would be in the way of the next.
  if (cases.length * subjects.length > 1)
    return cases.flatMap(({ name }) => subjects.flatMap((subject) => typical(name, subject)));
  const baseline = new Baseline();
  try {
    return measure(subjects[0], cases[0], count, baseline);
  } finally {
    baseline.close();
  }
}

/** What the compiler puts inside what depends on when its threads get to run: processes differ by a fifth. */
function typical(name: string, subject: string): readonly Row[] {
  const runs = Array.from({ length: PROCESSES }, () => alone(name, subject));
  return runs.sort(([a], [b]) => a.ratio - b.ratio)[(PROCESSES - 1) / 2];
}

function alone(name: string, subject: string): readonly Row[] {
  const part = ["--part", "translate", "--json", "--count", String(count), "--case", name, "--backend", subject];
  return JSON.parse(execFileSync(process.execPath, [process.argv[1], ...part], { encoding: "utf8" })).translate;
}

const results: Record<string, readonly unknown[]> = {};
for (const name of names) {
  const { head, measure: rowsOf, columns } = PARTS[name as keyof typeof PARTS] as Part<unknown>;
  const rows = await rowsOf();
  results[name] = rows;
  if (!values.json) console.log(table([head, ...rows.map(columns)]));
}
if (values.json) console.log(JSON.stringify(results, undefined, 2));
