/** A comparison as text, as Markdown, as JSON. */
import type { Comparison } from "./compare.js";
import { rowsOf } from "./rows.js";

function header({ process, workload }: Comparison): string[] {
  return [
    `process   ${process.description}`,
    `file      ${workload.file}`,
    ...workload.checks.map((check, i) => `${i === 0 ? "checks" : "      "}    ${check}`),
  ];
}

function failures({ backends }: Comparison): string[] {
  return backends.flatMap(({ name, checks }) =>
    checks.filter(({ ok }) => !ok).map(({ what, detail }) => `${name}: ${what}: ${detail ?? "wrong"}`),
  );
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
  return [...header(comparison), "", ...lines, ...failures(comparison)].join("\n");
}

export function renderMarkdown(comparison: Comparison): string {
  const { process, workload, backends } = comparison;
  const cell = (text: string) => text.trim().replaceAll("|", "\\|");
  const indent = (label: string) => (label.startsWith(" ") ? `&nbsp;&nbsp;${cell(label)}` : cell(label));
  return [
    `${process.description}; ${workload.file}`,
    "",
    `| | ${backends.map(({ name }) => name).join(" | ")} |`,
    `| --- | ${backends.map(() => "---:").join(" | ")} |`,
    ...rowsOf(comparison).map(({ label, cells }) => `| ${indent(label)} | ${cells.map(cell).join(" | ")} |`),
    ...failures(comparison),
  ].join("\n");
}

export function renderJson(comparison: Comparison): string {
  return JSON.stringify(comparison, undefined, 2);
}
