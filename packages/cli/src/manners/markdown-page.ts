/** A command's page of docs/cli. */
import { EXIT_STATUS } from "./exit-status.js";
import type { CommandPage, Entry } from "./page.js";

export function markdownPage(page: CommandPage): string {
  return [
    `# ${page.usage.split(" [")[0].split(" <")[0]}`,
    "",
    "Written by `npm run docs` from the command's own help.",
    "",
    sentence(page.summary),
    "",
    "```console",
    `$ ${page.usage}`,
    "```",
    ...table("Arguments", page.arguments),
    ...table("Options", page.options),
    ...table(
      "Commands",
      page.commands.map(({ name, summary }) => ({ term: `[${name}](${name}.md)`, text: summary })),
    ),
    ...page.sections.flatMap(({ title, lines }) => ["", `## ${title}`, "", "```console", ...lines.map(outdent), "```"]),
    ...table("Exit status", EXIT_STATUS),
    "",
  ].join("\n");
}

function table(title: string, entries: readonly Entry[]): string[] {
  if (entries.length === 0) return [];
  const cell = (text: string) => text.replaceAll("|", "\\|");
  const term = (text: string) => (text.startsWith("[") && text.endsWith(")") ? text : `\`${text}\``);
  const rows = entries.map((entry) => `| ${cell(term(entry.term))} | ${cell(entry.text)} |`);
  return ["", `## ${title}`, "", "| | |", "| --- | --- |", ...rows];
}

function sentence(text: string): string {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function outdent(line: string): string {
  return line.replace(/^ {2}/, "");
}
