/**
 * What each test speaks of. Two ways count: a call or an object that belongs to one table for sure, through the test's helper
 * functions as well (`bench.put(at, ROOT_ENTRY, { P: 0 })`, `context({ AW: 3 })`, `{ ID: "F_CD_FETCH", SSV: true }`); and a
 * field's name in a test where only one of the tables at work has such a field.
 */
import { posix } from "node:path";
import type { CodeList } from "./codes.ts";
import { Names } from "./names.ts";
import { child, childrenOf, find, isFunction, keyOf, list, type Node, nameOf, parse, textOf, walk } from "./syntax.ts";
import type { Table } from "./tables.ts";

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

/** A helper function: which tables each parameter fills, which tables its result holds, and which it works on. */
class Helper {
  readonly parameters: Set<Table>[] = [];
  readonly result = new Set<Table>();
  readonly works = new Set<Table>();
  /** Fields that it sets or reads itself; known of helpers in the test's own file. */
  readonly speaks = new Set<string>();
}

interface File {
  readonly path: string;
  readonly program: Node;
  readonly names: Names;
  readonly helpers: Map<string, Helper>;
}

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
    const common = new Map<string, File>();
    for (const [path, text] of shared) common.set(path, this.#file(path, text, common));
    for (const [path, text] of tests) {
      const file = this.#file(path, text, common);
      for (const { name, node } of functionsIn(file.program)) this.#speak(node, file, file.helpers.get(name)?.speaks);
      for (const call of testsIn(file.program)) this.#test(call, file);
    }
    return this.#evidence;
  }

  #file(path: string, text: string, common: ReadonlyMap<string, File>): File {
    const program = parse(path, text);
    const inherited = importsOf(program, path).flatMap((each) => [...(common.get(each)?.helpers ?? [])]);
    const file: File = { path, program, names: new Names(program, this.#byName), helpers: new Map(inherited) };
    const own = functionsIn(program);
    for (const { name } of own) file.helpers.set(name, new Helper());
    for (let round = 0; round < 3; round++) for (const each of own) this.#learn(each, file);
    return file;
  }

  #learn({ name, node }: NamedFunction, file: File): void {
    const helper = file.helpers.get(name);
    const body = child(node, "body");
    if (!helper || !body) return;
    const parameters = list(node, "params").map((parameter) => parameterNames(parameter));
    const derived = derivedNames(body);
    walk(body, (each) => {
      for (const table of file.names.of(each)) helper.works.add(table);
      if (each.type !== "CallExpression") return;
      for (const table of this.#decodes(each, file)) helper.result.add(table);
      for (const [at, tables] of this.#targets(each, file).entries()) {
        const used = new Set(
          find(list(each, "arguments")[at], "Identifier").map((id) => derived.get(nameOf(id)) ?? nameOf(id)),
        );
        for (const [index, names] of parameters.entries()) {
          const into = helper.parameters[index] ?? new Set<Table>();
          helper.parameters[index] = into;
          if (names.some((parameter) => used.has(parameter))) for (const table of tables) into.add(table);
        }
      }
      const called = file.helpers.get(helperOf(child(each, "callee")));
      if (called) for (const table of called.works) helper.works.add(table);
    });
  }

  /** Tables that the arguments of a call fill, by argument. */
  #targets(call: Node, file: File): Set<Table>[] {
    const parameters = list(call, "arguments");
    const callee = child(call, "callee");
    const own = file.names.of(child(callee, "object"));
    const given = parameters.flatMap((argument) => file.names.of(argument));
    const helper = file.helpers.get(helperOf(callee));
    return parameters.map((_, at) => new Set([...own, ...given, ...(helper?.parameters[at] ?? [])]));
  }

  /** Tables whose decoded values an expression holds. */
  #decodes(node: Node, file: File): Set<Table> {
    const found = new Set<Table>();
    walk(node, (each) => {
      const callee = child(each, "callee");
      const object = nameOf(callee) === "decode" ? [child(callee, "object")] : [];
      const read = nameOf(callee) === "get" ? list(each, "arguments") : [];
      for (const table of [...object, ...read].flatMap((from) => file.names.of(from))) found.add(table);
      for (const table of file.helpers.get(helperOf(callee ?? each))?.result ?? []) found.add(table);
    });
    return found;
  }

  #test(call: Node, file: File): void {
    const spoken = new Set<string>();
    const through = new Set<string>();
    this.#speak(call, file, spoken);
    for (const node of find(call, "CallExpression"))
      for (const key of file.helpers.get(helperOf(child(node, "callee")))?.speaks ?? []) through.add(key);
    const test: Test = { file: file.path, title: textOf(list(call, "arguments")[0]), breadth: spoken.size };
    for (const key of spoken) this.#evidence.add(key, test, false);
    for (const key of through) this.#evidence.add(key, test, true);
  }

  /** Adds what a test or a function speaks of. */
  #speak(call: Node, file: File, spoken = new Set<string>()): void {
    const atWork = new Set<Table>();
    const mentioned = new Set<string>();
    const values = valuesIn(call);
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
        for (const table of file.helpers.get(helperOf(child(node, "callee")))?.works ?? []) atWork.add(table);
        for (const [at, tables] of this.#targets(node, file).entries()) under(tables, list(node, "arguments")[at]);
        this.#expectation(node, file, under);
      } else if (node.type === "MemberExpression") {
        const object = child(node, "object");
        mentioned.add(nameOf(node));
        named(file.names.of(object), nameOf(node));
        if (object) named(this.#decodes(object, file), nameOf(node));
      } else if (node.type === "ArrayExpression") {
        under(
          list(node, "elements").flatMap((element) => file.names.of(element)),
          node,
        );
      } else if (node.type === "VariableDeclarator") {
        const init = child(node, "init");
        const pattern = child(node, "id");
        if (init && pattern?.type === "ObjectPattern") under(this.#decodes(init, file), pattern);
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
  #expectation(node: Node, file: File, under: (tables: Iterable<Table>, node: Node) => void): void {
    const matcher = child(node, "callee");
    const expected = child(matcher, "object");
    if (expected?.type !== "CallExpression" || nameOf(child(expected, "callee")) !== "expect") return;
    const tables = list(expected, "arguments").flatMap((argument) => [...this.#decodes(argument, file)]);
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

interface NamedFunction {
  readonly name: string;
  readonly node: Node;
}

/** Under which name a callee's helper is kept: functions by their name, methods and getters with a point before it. */
function helperOf(callee: Node | undefined): string {
  return callee?.type === "MemberExpression" ? `.${nameOf(callee)}` : nameOf(callee);
}

/** Functions, methods and getters with a name. */
function functionsIn(program: Node): NamedFunction[] {
  const found: NamedFunction[] = [];
  walk(program, (node) => {
    const value = child(node, "init") ?? child(node, "value");
    if (node.type === "FunctionDeclaration") found.push({ name: nameOf(child(node, "id")), node });
    else if (node.type === "VariableDeclarator" && value && isFunction(value))
      found.push({ name: nameOf(child(node, "id")), node: value });
    else if (node.type === "MethodDefinition" && value) found.push({ name: `.${keyOf(node)}`, node: value });
  });
  return found;
}

function parameterNames(parameter: Node): string[] {
  return parameter.type === "TSParameterProperty" ? [] : find(parameter, "Identifier").map((id) => nameOf(id));
}

/** Local names that come from another: `for (const [, values] of Object.entries(pasids))`. */
function derivedNames(body: Node): Map<string, string> {
  const derived = new Map<string, string>();
  for (const loop of find(body, "ForOfStatement")) {
    const source = find(child(loop, "right") as Node, "Identifier").at(-1);
    for (const id of find(child(loop, "left") as Node, "Identifier"))
      if (source) derived.set(nameOf(id), nameOf(source));
  }
  return derived;
}

/** What the variables and the row parameters of a test stand for. */
function valuesIn(call: Node): Map<string, Node> {
  const values = new Map<string, Node>();
  walk(call, (node) => {
    const init = child(node, "init");
    if (node.type === "VariableDeclarator" && init && !isFunction(init))
      for (const id of find(child(node, "id") as Node, "Identifier")) values.set(nameOf(id), init);
    if (node.type === "ForOfStatement")
      for (const id of find(child(node, "left") as Node, "Identifier"))
        values.set(nameOf(id), child(node, "right") as Node);
  });
  const rows = rowsOf(call);
  const body = list(call, "arguments").find(isFunction);
  if (rows && body)
    for (const parameter of list(body, "params")) for (const name of parameterNames(parameter)) values.set(name, rows);
  return values;
}

/** The rows of `it.each(rows)(…)`. */
function rowsOf(call: Node): Node | undefined {
  const callee = child(call, "callee");
  return callee?.type === "CallExpression" ? list(callee, "arguments")[0] : undefined;
}

/** Names of properties and texts below an argument, through variables, but not inside of other calls. */
function namesUnder(node: Node, values: ReadonlyMap<string, Node>, seen = new Set<Node>()): Set<string> {
  const names = new Set<string>();
  if (seen.has(node)) return names;
  seen.add(node);
  if (node.type === "CallExpression" || isFunction(node)) return names;
  if (node.type === "Property") names.add(keyOf(node));
  if (textOf(node) !== "") names.add(textOf(node));
  const value = node.type === "Identifier" ? values.get(nameOf(node)) : undefined;
  for (const inner of value ? [value] : childrenOf(node))
    for (const name of namesUnder(inner, values, seen)) names.add(name);
  return names;
}

const TEST = new Set(["it", "test"]);

/** Calls of `it`, `it.each(…)`, `it.prop(…)`. */
function testsIn(program: Node): Node[] {
  return find(program, "CallExpression").filter((call) => {
    let callee = child(call, "callee");
    if (callee?.type === "CallExpression") callee = child(callee, "callee");
    const root = callee?.type === "MemberExpression" ? child(callee, "object") : callee;
    return TEST.has(nameOf(root)) && list(call, "arguments").some(isFunction);
  });
}

/** Files that a file imports by a relative path. */
function importsOf(program: Node, path: string): string[] {
  return find(program, "ImportDeclaration").flatMap((node) => {
    const source = textOf(child(node, "source"));
    return source.startsWith(".") ? [posix.join(posix.dirname(path), source.replace(/\.js$/, ".ts"))] : [];
  });
}
