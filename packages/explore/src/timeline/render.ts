/**
 * A timeline as text of at most 120 columns: software on the left, hardware and devices on the right, a header where another
 * actor goes on; below, how everything stood when the rule was broken.
 */
import { hex } from "@iommukit/core";
import type { CacheState, EntryState, MachineState, WordState } from "./state.js";
import type { TimelineLine, TimelineReport } from "./timeline.js";
import { WIDTH, wrap } from "./wrap.js";

const BETWEEN = " │ ";
const COLUMN = Math.floor((WIDTH - BETWEEN.length) / 2);
const INDENT = 2;
/** Rows that are shown of a long run. */
const FIRST = 120;
const LAST = 180;
/** Longer names than this begin a line of their own. */
const LABEL = 60;

/** The text that `iommukit explore --replay` prints. */
export function renderTimeline({ lines, state }: TimelineReport): string {
  return [
    `${"software".padEnd(COLUMN)}${BETWEEN}hardware and devices`,
    `${"─".repeat(COLUMN + 1)}┼${"─".repeat(COLUMN + 1)}`,
    ...abridged(lines.filter((line, at) => line.kind !== "actor" || isFollowed(lines, at)).flatMap(rows)),
    "",
    `when ${state.when}`,
    ...stateRows(state),
  ]
    .map((row) => row.trimEnd())
    .join("\n");
}

/** A run without an end has thousands of rows, one like the other. */
function abridged(all: readonly string[]): readonly string[] {
  if (all.length <= FIRST + LAST) return all;
  const left = `… ${all.length - FIRST - LAST} rows are left out …`;
  return [...all.slice(0, FIRST), left, ...all.slice(-LAST)];
}

/** An actor that did nothing worth a line needs no header, unless the schedule chose it. */
function isFollowed(lines: readonly TimelineLine[], at: number): boolean {
  const next = lines[at + 1];
  return lines[at].text.includes("← choice") || (next !== undefined && next.kind !== "actor");
}

const LEADS = { actor: "── ", choice: "  ! ", event: "   " } as const;

function rows({ side, kind, text }: TimelineLine): string[] {
  if (side === "rule") return wrap(`✗ ${text}`, INDENT);
  const column = wrap(`${LEADS[kind]}${text}`, LEADS[kind].length + INDENT, COLUMN);
  if (side === "software") return column.map((part) => `${part.padEnd(COLUMN)}${BETWEEN}`);
  return column.map((part) => `${" ".repeat(COLUMN)}${BETWEEN}${part}`);
}

function stateRows({ waiting, locks, entries, pageTables, caches }: MachineState): string[] {
  return [
    ...section(
      "threads that wait",
      waiting.map((one) => `${one.thread} waits for ${one.for}`),
    ),
    ...section(
      "locks",
      pairs(locks.map(({ lock, holder, wanted }) => [lock, `held by ${holder ?? "nobody"}${wantedBy(wanted)}`])),
    ),
    ...section("table words", entries.flatMap(entryRows)),
    ...section(
      "page table words written",
      pageTables.map(({ unit, table, address, words }) => `${table} ${hex(address)} = ${word(words[0])}  (${unit})`),
    ),
    ...section("caches", pairs(caches.map((entry) => [cacheLabel(entry), entry.says]))),
  ];
}

const wantedBy = (wanted: readonly string[]) => (wanted.length === 0 ? "" : `, wanted by ${wanted.join(", ")}`);
const cacheLabel = ({ of, cache, tag }: CacheState) => `${of} ${cache}: ${tag}`;
const word = ({ value }: WordState) => `0x${value.toString(16).padStart(16, "0")}`;

function entryRows({ unit, table, address, words }: EntryState): string[] {
  const label = (offset: number) => `  +0x${offset.toString(16).padStart(2, "0")}`;
  return [
    `${table} ${hex(address)} of ${unit}`,
    ...words.map((one) => `${label(one.offset)}  ${word(one)}  ${one.value === 0n ? "not valid" : one.fields}`),
  ];
}

/** Two columns, the second one aligned. */
function pairs(table: readonly (readonly [string, string])[]): string[] {
  const width = Math.min(LABEL, Math.max(0, ...table.map(([label]) => label.length)));
  return table.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
}

function section(title: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return ["", `${title}: none`];
  const indent = " ".repeat(INDENT);
  return ["", title, ...lines.flatMap((line) => wrap(`${indent}${line}`, indentOf(line) + 2 * INDENT))];
}

const indentOf = (line: string) => line.length - line.trimStart().length;
