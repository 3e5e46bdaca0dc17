/** The fidelity pages: one row per item, with where it is modelled and which tests speak of it, or why it is left out. */
import type { CodeSection, Item, Report, Section } from "./report.ts";
import type { Test } from "./tests.ts";

const BEGIN = "<!-- fidelity: written by `npm run docs` -->";
const END = "<!-- fidelity: end -->";
const cell = (text: string) => text.replaceAll("|", "\\|");

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line), ""];
}

/** A link to a test's file under the test's title. @param root from the page to the repository, with a slash */
function link({ file, title }: Test, root: string): string {
  return `[${cell(title.replaceAll(/[[\]]/g, "\\$&"))}](${root}${file})`;
}

/** How an item is tested, or why it is left out. */
function evidence({ tests, leftOut }: Item, root: string, most: number): string {
  if (leftOut !== undefined) return `left out: ${cell(leftOut)}`;
  return tests
    .slice(0, most)
    .map((test) => link(test, root))
    .join("; ");
}

const files = (paths: readonly string[]) =>
  [...new Set(paths.map((path) => path.slice(path.lastIndexOf("/") + 1)))].map((name) => `\`${name}\``).join(" ");

/** docs/fidelity/NAME.md: every item. */
export function page(report: Report): string {
  const { name } = report.backend;
  return [
    `# ${name}: every field and code`,
    "",
    "Written by `npm run docs` from the field tables, the sources and the tests. A file stands under *chip* or *driver* when it",
    "names the field's accessor; a test when it sets, expects or reads the field. Why a field is left out says",
    `\`packages/${name}/src/spec/left-out.ts\`.`,
    "",
    ...counts(report),
    "",
    ...report.codes.flatMap(({ list, items }) => [`## ${list.title}`, "", ...full("code", items)]),
    ...report.sections.flatMap(({ table: { layout }, items }) =>
      items.length === 0 ? [] : [`## ${layout.name} (${layout.spec})`, "", ...full("bits", items)],
    ),
  ].join("\n");
}

function full(where: string, items: readonly Item[]): string[] {
  return table(
    [where, "name", "chip", "driver", "tests"],
    items.map((item) => [
      item.where,
      `\`${item.label}\``,
      files(item.chip),
      files(item.driver),
      evidence(item, "../../", 3),
    ]),
  );
}

function counts(report: Report): string[] {
  const items = report.items;
  const out = items.filter(({ leftOut }) => leftOut !== undefined).length;
  return [`${items.length} fields and codes: ${items.length - out} modelled and tested, ${out} left out.`];
}

/** The part of a package's README between the two marks. */
export function readme(text: string, report: Report): string {
  const [before, rest] = text.split(BEGIN);
  const after = rest?.split(END)[1];
  if (after === undefined)
    throw new Error(`the README of ${report.backend.name} has no place for the fidelity tables: ${BEGIN} … ${END}`);
  return `${before}${BEGIN}\n${summary(report).join("\n")}\n${END}${after}`;
}

function summary(report: Report): string[] {
  const { name, byField } = report.backend;
  const apart = report.sections.filter(({ table: { name } }) => byField.includes(name));
  const rest = report.sections.filter((section) => !apart.includes(section) && section.items.length > 0);
  return [
    "",
    ...counts(report),
    `All of them, with more tests: [docs/fidelity/${name}.md](../../docs/fidelity/${name}.md).`,
    "",
    ...report.codes.flatMap(codeSummary),
    ...apart.flatMap(({ table: { layout }, items }) => [
      `### ${layout.name} (${layout.spec})`,
      "",
      ...short("bits", items),
    ]),
    "### Registers, entries and descriptors",
    "",
    ...table(["table", "modelled and tested", "tested in", "left out"], rest.map(row)),
  ];
}

function codeSummary({ list, items }: CodeSection): string[] {
  return [`### ${list.title}`, "", ...short("code", items)];
}

function short(where: string, items: readonly Item[]): string[] {
  return table(
    [where, "name", "what", "how it is tested, or why it is left out"],
    items.map((item) => [item.where, `\`${item.label}\``, cell(item.meaning), evidence(item, "../../", 1)]),
  );
}

/** One line for a table: the fields that are modelled, and the others by reason. */
function row({ table: { layout }, items }: Section): string[] {
  const names = (of: readonly Item[]) => of.map(({ label }) => `\`${label}\``).join(" ");
  const modelled = items.filter(({ leftOut }) => leftOut === undefined);
  const reasons = new Set(items.flatMap(({ leftOut }) => leftOut ?? []));
  const out = [...reasons].map(
    (reason) => `${names(items.filter(({ leftOut }) => leftOut === reason))}: ${cell(reason)}`,
  );
  return [layout.name, names(modelled), testFiles(modelled), out.join("; ")];
}

/** The files whose tests speak of a table's fields, the ones with most of them first. */
function testFiles(items: readonly Item[]): string {
  const counts = new Map<string, Set<Test>>();
  for (const { tests } of items)
    for (const test of tests) counts.set(test.file, (counts.get(test.file) ?? new Set()).add(test));
  return [...counts]
    .toSorted(([, a], [, b]) => b.size - a.size)
    .slice(0, 3)
    .map(([file]) => `[${file.slice(file.lastIndexOf("/") + 1, -".test.ts".length)}](../../${file})`)
    .join(", ");
}
