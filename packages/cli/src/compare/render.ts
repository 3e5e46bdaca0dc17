/** A comparison as text, as Markdown, as JSON, as NDJSON. */
import type { Comparison } from "./compare.js";
import { figures } from "./cost-model.js";
import { rowsOf } from "./rows.js";

function header({ process, workload }: Comparison): string[] {
  return [
    `process   ${process.description}`,
    ...(workload.file === undefined ? [`workload  ${workload.name}`] : [`file      ${workload.file}`]),
    ...workload.checks.map((check, i) => `${i === 0 ? "checks" : "      "}    ${check}`),
  ];
}

function failures({ backends }: Comparison): string[] {
  return backends.flatMap(({ name, checks }) =>
    checks.filter(({ ok }) => !ok).map(({ what, detail }) => `${name}: ${what}: ${detail ?? "wrong"}`),
  );
}

/** What the modelled times are made of, for each backend; nothing where there are none. */
export function costLines({ backends }: Comparison): string[] {
  const named = new Set(backends.filter(({ faultLatency }) => faultLatency).map(({ backend }) => backend));
  const lines = [...named].flatMap((backend) =>
    figures(backend).map(
      ({ what, nanoseconds, origin, source }) => `${backend}: ${what}: ${nanoseconds} ns (${origin}: ${source})`,
    ),
  );
  return lines.length === 0 ? [] : ["modelled = counts x figures:", ...lines];
}

function paragraph(lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : ["", ...lines];
}

export function renderText(comparison: Comparison): string {
  const rows = [{ label: "", cells: comparison.backends.map(({ name }) => name) }, ...rowsOf(comparison)];
  const widths = [
    rows.map(({ label }) => label),
    ...comparison.backends.map((_, i) => rows.map(({ cells }) => cells[i])),
  ].map((column) => Math.max(...column.map((cell) => cell.length)));
  const lines = rows.map(({ label, cells }) =>
    [label.padEnd(widths[0]), ...cells.map((cell, i) => cell.padStart(widths[i + 1]))].join("  ").trimEnd(),
  );
  lines.splice(1, 0, "-".repeat(widths.reduce((sum, width) => sum + width + 2, -2)));
  return [...header(comparison), "", ...lines, ...failures(comparison), ...paragraph(costLines(comparison))].join("\n");
}

export function renderMarkdown(comparison: Comparison): string {
  const { process, workload, backends } = comparison;
  const cell = (text: string) => text.trim().replaceAll("|", "\\|");
  const indent = (label: string) => (label.startsWith(" ") ? `&nbsp;&nbsp;${cell(label)}` : cell(label));
  return [
    `${process.description}; ${workload.file ?? workload.name}`,
    "",
    `| | ${backends.map(({ name }) => name).join(" | ")} |`,
    `| --- | ${backends.map(() => "---:").join(" | ")} |`,
    ...rowsOf(comparison).map(({ label, cells }) => `| ${indent(label)} | ${cells.map(cell).join(" | ")} |`),
    ...failures(comparison),
    ...paragraph(costLines(comparison).map((line, n) => (n === 0 ? line : `- ${line}`))),
  ].join("\n");
}

export function renderJson(comparison: Comparison): string {
  return JSON.stringify({ ...comparison, costs: figuresOf(comparison) }, undefined, 2);
}

/** One backend a line, with what it was asked to do. */
export function renderNdjson({ process, workload, backends }: Comparison): string {
  return backends.map((result) => JSON.stringify({ process, workload, ...result })).join("\n");
}

function figuresOf({ backends }: Comparison) {
  return Object.fromEntries(
    backends.map(({ backend }) => [
      backend,
      figures(backend).map(({ what, nanoseconds, origin, source }) => ({ what, nanoseconds, origin, source })),
    ]),
  );
}
