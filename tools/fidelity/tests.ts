/**
 * What each test speaks of. Two ways count: a call or an object that belongs to one table for sure, through the test's helper
 * functions as well (`bench.put(at, ROOT_ENTRY, { P: 0 })`, `context({ AW: 3 })`, `{ ID: "F_CD_FETCH", SSV: true }`); and a
 * field's name in a test where only one of the tables at work has such a field.
 */
import type { CodeList } from "./codes.ts";
import { child, find, keyOf, list, type Node, nameOf, textOf, walk } from "./syntax.ts";
import type { Table } from "./tables.ts";
import { namesUnder, testsIn, titleOf } from "./test-calls.ts";
import { TestFile } from "./test-file.ts";

export interface Test {
  /** Relative to the repository. */
  readonly file: string;
  readonly title: string;
  /** How many different things it speaks of: the fewer, the more it is about each. */
  readonly breadth: number;
}

/** Tests by what they speak of: a table's field, or a code. */
export class Evidence {
  readonly #own = new Map<string, Test[]>();
  readonly #through = new Map<string, Test[]>();

  add(key: string, test: Test, through: boolean): void {
    const map = through ? this.#through : this.#own;
    map.set(key, [...(map.get(key) ?? []), test]);
  }

  /** Tests that speak of it themselves; where there are none, those that call a function of their file which does. */
  of(key: string): readonly Test[] {
    return this.#own.get(key) ?? this.#through.get(key) ?? [];
  }
}

export const fieldKey = (table: Table, field: string) => `${table.name}.${field}`;

export class TestReader {
  readonly #evidence = new Evidence();
  readonly #byName: ReadonlyMap<string, Table>;

  constructor(
    tables: readonly Table[],
    private readonly lists: readonly CodeList[],
    /** Keys of objects whose value is the name of a code and of its table: `{ ID: "C_BAD_STE" }`. */
    private readonly codeKeys: readonly string[],
  ) {
    this.#byName = new Map(tables.map((table) => [table.name, table]));
  }

  /** @param shared files of helpers that the tests import. */
  read(tests: ReadonlyMap<string, string>, shared: ReadonlyMap<string, string>): Evidence {
    const common = new Map<string, TestFile>();
    for (const [path, text] of shared) common.set(path, new TestFile(path, text, this.#byName, common));
    for (const [path, text] of tests) {
      const file = new TestFile(path, text, this.#byName, common);
      for (const { name, node } of file.functions) this.#speak(node, file, file.helpers.get(name)?.speaks);
      for (const call of testsIn(file.program)) this.#test(call, file);
    }
    return this.#evidence;
  }

  #test(call: Node, file: TestFile): void {
    const spoken = new Set<string>();
    const through = new Set<string>();
    this.#speak(call, file, spoken);
    for (const node of find(call, "CallExpression"))
      for (const key of file.helper(node)?.speaks ?? []) through.add(key);
    const test: Test = { file: file.path, title: titleOf(call, file.program), breadth: spoken.size };
    for (const key of spoken) this.#evidence.add(key, test, false);
    for (const key of through) this.#evidence.add(key, test, true);
  }

  /** Adds what a test or a function speaks of. */
  #speak(call: Node, file: TestFile, spoken = new Set<string>()): void {
    const atWork = new Set<Table>();
    const mentioned = new Set<string>();
    const { values } = file;
    const named = (tables: Iterable<Table>, field: string) => {
      for (const table of tables) if (has(table, field)) spoken.add(fieldKey(table, field));
    };
    const under = (tables: Iterable<Table>, node: Node) => {
      const all = [...tables];
      if (all.length > 0) for (const field of namesUnder(node, values)) named(all, field);
    };
    walk(call, (node) => {
      for (const table of file.names.of(node)) {
        atWork.add(table);
        // A register of one field is that field.
        if (table.fields.length === 1) spoken.add(fieldKey(table, table.fields[0].name));
      }
      if (node.type === "CallExpression") {
        for (const table of file.helper(node)?.works ?? []) atWork.add(table);
        for (const [at, tables] of file.targets(node).entries()) under(tables, list(node, "arguments")[at]);
        this.#expectation(node, file, under);
      } else if (node.type === "MemberExpression") {
        const object = child(node, "object");
        mentioned.add(nameOf(node));
        named(file.names.of(object), nameOf(node));
        if (object) named(file.decodes(object), nameOf(node));
      } else if (node.type === "ArrayExpression") {
        under(
          list(node, "elements").flatMap((element) => file.names.of(element)),
          node,
        );
      } else if (node.type === "VariableDeclarator") {
        const init = child(node, "init");
        const pattern = child(node, "id");
        if (init && pattern?.type === "ObjectPattern") under(file.decodes(init), pattern);
      } else if (node.type === "ObjectExpression") {
        under(this.#coded(node), node);
      } else if (node.type === "Property") {
        mentioned.add(keyOf(node));
      }
      for (const list of this.lists)
        for (const code of list.codes) if (list.speaks(code, node, call)) spoken.add(code.name);
      if (textOf(node) !== "") mentioned.add(textOf(node));
    });
    for (const name of mentioned) {
      const owners = [...atWork].filter((table) => has(table, name));
      if (owners.length === 1) named(owners, name);
    }
  }

  /** `expect(CD.decode(words)).toMatchObject({ … })` */
  #expectation(node: Node, file: TestFile, under: (tables: Iterable<Table>, node: Node) => void): void {
    const matcher = child(node, "callee");
    const expected = child(matcher, "object");
    if (expected?.type !== "CallExpression" || nameOf(child(expected, "callee")) !== "expect") return;
    const tables = list(expected, "arguments").flatMap((argument) => [...file.decodes(argument)]);
    for (const argument of list(node, "arguments")) under(tables, argument);
  }

  /** The table of an object that names its code. */
  #coded(node: Node): Table[] {
    return list(node, "properties").flatMap((property) => {
      const table = this.codeKeys.includes(keyOf(property))
        ? this.#byName.get(textOf(child(property, "value")))
        : undefined;
      return table ? [table] : [];
    });
  }
}

function has(table: Table, name: string): boolean {
  return table.fields.some((field) => field.name === name);
}
