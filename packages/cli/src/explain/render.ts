/** Records as text and as JSON: one line each, with `-v` every field; hex as strings, the raw words beside what they mean. */
import { causesOf } from "./causes/causes.js";
import { hex } from "./hex.js";
import type { ExplainRecord, Part } from "./record.js";
import type { Walk } from "./walk/step.js";
import type { Why, WhyGroup } from "./why.js";

/** In a short report: answers, and causes of each. */
const SHORT = { groups: 8, causes: 3 } as const;

export function renderRecord(record: ExplainRecord, walk: Walk | undefined, verbose: boolean): string {
  const lines = [record.summary, ...record.notes.map((note) => `  ! ${note}`)];
  if (verbose) lines.push(...record.parts.flatMap(renderPart));
  if (walk !== undefined) lines.push(...renderWalk(walk));
  return lines.join("\n");
}

function renderPart({ table, section, words, fields }: Part): string[] {
  const label = fields.map(({ name, bits }) => `${name}[${bits}]`);
  const width = Math.max(0, ...label.map((text) => text.length));
  const values = Math.max(0, ...fields.map(({ value }) => value.length));
  const rows = fields.map(({ value, meaning, section: own }, n) => {
    const where = own === section ? "" : `  (${own})`;
    return `    ${label[n].padEnd(width)} = ${value.padEnd(values)}  ${meaning}${where}`.trimEnd();
  });
  return [`  ${table} (${section})  ${words.join(" ")}`, ...rows];
}

function renderWalk({ steps, verdict }: Walk): string[] {
  return [
    ...steps.map(({ name, address, words, meaning }) => `  ${name} @ ${address} = ${words.join(" ")}  ${meaning}`),
    `  ${verdict}`,
  ];
}

export function renderWhy(why: Why, verbose: boolean): string {
  const groups = verbose ? why.groups : why.groups.slice(0, SHORT.groups);
  const left = why.groups.slice(groups.length).reduce((sum, { count }) => sum + count, why.others);
  const rest = left === 0 ? [] : [`\n${left} more faults of other kinds`];
  return [...groups.map((group) => renderGroup(group, verbose)), ...rest].join("\n");
}

function renderGroup({ title, firstLine, count, causes }: WhyGroup, verbose: boolean): string {
  const times = count === 1 ? `line ${firstLine}` : `${count} times, first on line ${firstLine}`;
  const shown = verbose ? causes : causes.slice(0, SHORT.causes);
  return [
    `\nwhy: ${title} (${times})`,
    ...shown.flatMap(({ title: cause, because, distinguish, attempt, sources }, n) => [
      `  ${n + 1}. ${cause}`,
      `     because  ${because}`,
      `     tell by  ${distinguish}`,
      `     try      ${attempt}`,
      `     source   ${sources.join("; ")}`,
    ]),
  ].join("\n");
}

/** @param why with the likely causes */
export function recordJson(record: ExplainRecord, file: string, walk: Walk | undefined, why: boolean): string {
  const { facts, ...rest } = record;
  const causes = why ? causesOf(facts) : undefined;
  const plain = Object.fromEntries(
    Object.entries(facts)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, plainFact(key, value)]),
  );
  return JSON.stringify({ file, ...rest, facts: plain, walk, causes });
}

/** Numbers of the hardware as hex strings; the stage is a count. */
function plainFact(key: string, value: unknown): unknown {
  if (typeof value === "bigint") return hex(value, 16);
  return typeof value === "number" && key !== "stage" ? hex(value) : value;
}
