/** Every item of a backend with its evidence, and what is wrong with it. */
import { bitsOf } from "@iommukit/core";
import type { Backend } from "./backends.ts";
import type { Code, CodeList } from "./codes.ts";
import { SourceUses } from "./sources.ts";
import { type Modules, type Table, tablesOf } from "./tables.ts";
import { fieldKey, type Test, TestReader } from "./tests.ts";

/** A field or a code. */
export interface Item {
  /** "STE.S1DSS", "EVENT.F_UUT" */
  readonly key: string;
  /** Bits of a field, number of a code. */
  readonly where: string;
  readonly label: string;
  readonly meaning: string;
  readonly chip: readonly string[];
  readonly driver: readonly string[];
  /** The ones that are most about the item first. */
  readonly tests: readonly Test[];
  /** Why the chip does not model it. */
  readonly leftOut: string | undefined;
  /** A file of the chip that names it although it is left out. */
  readonly usedAnyway: string | undefined;
}

export interface Section {
  readonly table: Table;
  readonly items: readonly Item[];
}

export interface CodeSection {
  readonly list: CodeList;
  readonly items: readonly Item[];
}

/** Texts of a backend's sources and tests, by path relative to the repository. */
export interface Texts {
  readonly hardware: ReadonlyMap<string, string>;
  readonly driver: ReadonlyMap<string, string>;
  readonly tests: ReadonlyMap<string, string>;
  readonly helpers: ReadonlyMap<string, string>;
}

/** Reasons, each with the items that it is for: "STE.MemAttr", "CMD_CFGI_VMS_PIDM.*". */
export type LeftOut = Readonly<Record<string, readonly string[]>>;

export class Report {
  readonly sections: readonly Section[];
  readonly codes: readonly CodeSection[];
  /** One line for each item whose evidence and reason do not fit together. */
  readonly problems: readonly string[];

  constructor(
    readonly backend: Backend,
    modules: Modules,
    texts: Texts,
    leftOut: LeftOut,
  ) {
    const tables = tablesOf(modules, backend.made(modules));
    const lists = backend.codeLists(modules, tables);
    const codes = lists.flatMap((list) => list.codes);
    const chip = new SourceUses(texts.hardware, tables, codes);
    const driver = new SourceUses(texts.driver, tables, codes);
    const evidence = new TestReader(tables, lists, backend.codeKeys).read(texts.tests, texts.helpers);
    const reasons = new Map<string, string>();
    for (const [reason, items] of Object.entries(leftOut)) for (const item of items) reasons.set(item, reason);
    const used = new Set<string>();
    const reasonOf = (...keys: string[]) => {
      const key = keys.find((each) => reasons.has(each));
      if (key !== undefined) used.add(key);
      return key === undefined ? undefined : reasons.get(key);
    };
    this.sections = tables.map((table) => ({
      table,
      items: table.fields.map((field): Item => {
        const key = fieldKey(table, field.name);
        const reason = reasonOf(key, `${table.name}.*`);
        return {
          key,
          where: bitsOf(field),
          label: field.name,
          meaning: field.spec.meaning,
          chip: reason === undefined ? chip.of(table, field.name) : [],
          usedAnyway: reason === undefined ? undefined : chip.named(table, field.name),
          driver: driver.of(table, field.name),
          tests: ranked(evidence.of(key), [field.name]),
          leftOut: reason,
        };
      }),
    }));
    this.codes = lists.map((list) => ({
      list,
      items: list.codes.map((code): Item => {
        const reason = reasonOf(code.name);
        return {
          key: code.name,
          where: `0x${code.value.toString(16).padStart(2, "0")}`,
          label: code.label,
          meaning: code.meaning,
          chip: chip.ofCode(code),
          driver: driver.ofCode(code),
          tests: ranked(evidence.of(code.name), wordsOf(code)),
          leftOut: reason,
          usedAnyway: reason === undefined ? undefined : chip.ofCode(code)[0],
        };
      }),
    }));
    const unknown = [...reasons.keys()].filter((key) => !used.has(key));
    this.problems = [
      ...this.items.flatMap((item) => problemOf(item)),
      ...unknown.map((key) => `${key}: has a reason, but no table has it`),
    ];
  }

  get items(): Item[] {
    return [...this.codes, ...this.sections].flatMap(({ items }) => items);
  }
}

function problemOf({ key, chip, tests, leftOut, usedAnyway }: Item): string[] {
  if (usedAnyway !== undefined) return [`${key}: has a reason to be left out, but ${usedAnyway} uses it`];
  if (leftOut !== undefined) return [];
  if (chip.length === 0) return [`${key}: the chip does not use it, and no reason is given`];
  return tests.length === 0 ? [`${key}: modelled, but no test speaks of it`] : [];
}

/** What a title that is about the code may say. */
function wordsOf({ name, label }: Code): string[] {
  return [label, name.slice(name.indexOf(".") + 1)];
}

/** Tests whose title says the words first, then those of the chip, then those that speak of little else. */
function ranked(tests: readonly Test[], words: readonly string[]): Test[] {
  const says = ({ title }: Test) => Number(words.some((word) => title.includes(word)));
  const ofChip = ({ file }: Test) => Number(file.includes("/hardware/"));
  return tests.toSorted((a, b) => says(b) - says(a) || ofChip(b) - ofChip(a) || a.breadth - b.breadth);
}
