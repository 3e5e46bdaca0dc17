/** A replay as text, as Markdown, as JSON. */
import type { Replay } from "./report.js";
import { type Section, sections } from "./sections.js";

export function replayText(replay: Replay): string {
  return sections(replay)
    .map(({ title, table, list }) => {
      const body = table ? textTable(table) : (list ?? []).map((line) => (title === undefined ? line : `  ${line}`));
      return [...(title === undefined ? [] : [`${title}:`]), ...body].join("\n");
    })
    .join("\n\n");
}

function textTable({ head, left, rows }: NonNullable<Section["table"]>): string[] {
  const widths = head.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column].length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, n) => (n < left ? cell.padEnd(widths[n]) : cell.padStart(widths[n])))
      .join("  ")
      .trimEnd();
  return [line(head), "-".repeat(line(head).length), ...rows.map(line)];
}

export function replayMarkdown(replay: Replay): string {
  return sections(replay)
    .map(({ title, table, list }) => {
      const body = table
        ? markdownTable(table)
        : (list ?? []).map((line) => (title === undefined ? line : `- ${line}`));
      return [...(title === undefined ? [] : [`### ${title}`, ""]), ...body].join("\n");
    })
    .join("\n\n");
}

function markdownTable({ head, left, rows }: NonNullable<Section["table"]>): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map((_, n) => (n < left ? "---" : "---:"))), ...rows.map(line)];
}

export function replayJson(replay: Replay): string {
  return JSON.stringify(replay, null, 2);
}
