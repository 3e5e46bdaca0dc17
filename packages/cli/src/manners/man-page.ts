/** A command's man page, in the macros of man(7). */
import { EXIT_STATUS } from "./exit-status.js";
import type { CommandPage, Entry } from "./page.js";

export function manPage(page: CommandPage, version: string): string {
  const name = manName(page);
  return [
    `.\\" Written by "npm run docs" from the command's own help.`,
    `.TH ${name.toUpperCase()} 1 "" "iommukit ${version}"`,
    ".SH NAME",
    `${roff(name)} \\- ${roff(page.summary)}`,
    ".SH SYNOPSIS",
    `.B ${roff(page.usage)}`,
    ...list("ARGUMENTS", page.arguments),
    ...list("OPTIONS", page.options),
    ...list(
      "COMMANDS",
      page.commands.map((sub) => ({ term: `iommukit-${sub.name}(1)`, text: sub.summary })),
    ),
    ...page.sections.flatMap(({ title, lines }) => [
      `.SH ${roff(title.toUpperCase())}`,
      ".nf",
      ...lines.map(roff),
      ".fi",
    ]),
    ...list("EXIT STATUS", EXIT_STATUS),
    "",
  ].join("\n");
}

/** "iommukit", "iommukit-explain". */
export function manName({ name }: CommandPage): string {
  return name === "iommukit" ? name : `iommukit-${name}`;
}

function list(title: string, entries: readonly Entry[]): string[] {
  if (entries.length === 0) return [];
  return [`.SH ${title}`, ...entries.flatMap(({ term, text }) => [".TP", `.B ${roff(term)}`, roff(text)])];
}

/** A hyphen that is typed must not become a typographic one; a line must not start as a request. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1");
}
