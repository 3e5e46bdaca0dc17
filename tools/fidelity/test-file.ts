/** A file of tests or of their helpers: which tables its names stand for, and what its functions do with tables. */
import { posix } from "node:path";
import { Names } from "./names.ts";
import { child, find, isFunction, keyOf, list, type Node, nameOf, parse, textOf, walk } from "./syntax.ts";
import type { Table } from "./tables.ts";
import { Values } from "./test-calls.ts";

/** A helper function: which tables each parameter fills, which tables its result holds, and which it works on. */
export class Helper {
  readonly parameters: Set<Table>[] = [];
  readonly result = new Set<Table>();
  readonly works = new Set<Table>();
  /** Fields that it sets or reads itself; known of helpers in the test's own file. */
  readonly speaks = new Set<string>();
}

export class TestFile {
  readonly program: Node;
  readonly names: Names;
  readonly helpers: Map<string, Helper>;
  readonly values: Values;
  /** Functions of the file itself. */
  readonly functions: readonly NamedFunction[];

  /** @param common files of helpers by path, of which this one imports some */
  constructor(
    readonly path: string,
    text: string,
    tables: ReadonlyMap<string, Table>,
    common: ReadonlyMap<string, TestFile>,
  ) {
    this.program = parse(path, text);
    this.names = new Names(this.program, tables);
    this.values = new Values(this.program);
    this.functions = functionsIn(this.program);
    this.helpers = new Map(importsOf(this.program, path).flatMap((each) => [...(common.get(each)?.helpers ?? [])]));
    for (const { name } of this.functions) this.helpers.set(name, new Helper());
    for (let round = 0; round < 3; round++) for (const each of this.functions) this.#learn(each);
  }

  /** What is known of the function that a call calls. */
  helper(call: Node): Helper | undefined {
    return this.helpers.get(helperOf(child(call, "callee")));
  }

  #learn({ name, node }: NamedFunction): void {
    const helper = this.helpers.get(name);
    const body = child(node, "body");
    if (!helper || !body) return;
    const parameters = list(node, "params").map((parameter) => parameterNames(parameter));
    const derived = derivedNames(body);
    walk(body, (each) => {
      for (const table of this.names.of(each)) helper.works.add(table);
      if (each.type !== "CallExpression") return;
      for (const table of this.decodes(each)) helper.result.add(table);
      for (const [at, tables] of this.targets(each).entries()) {
        const used = new Set(
          find(list(each, "arguments")[at], "Identifier").flatMap((id) => [
            nameOf(id),
            ...(derived.get(nameOf(id)) ?? []),
          ]),
        );
        for (const [index, names] of parameters.entries()) {
          const into = helper.parameters[index] ?? new Set<Table>();
          helper.parameters[index] = into;
          if (names.some((parameter) => used.has(parameter))) for (const table of tables) into.add(table);
        }
      }
      const called = this.helpers.get(helperOf(child(each, "callee")));
      if (called) for (const table of called.works) helper.works.add(table);
    });
  }

  /** Tables that the arguments of a call fill, by argument. */
  targets(call: Node): Set<Table>[] {
    const parameters = list(call, "arguments");
    const callee = child(call, "callee");
    const own = this.names.of(child(callee, "object"));
    const given = parameters.flatMap((argument) => this.names.of(argument));
    const helper = this.helpers.get(helperOf(callee));
    return parameters.map((_, at) => new Set([...own, ...given, ...(helper?.parameters[at] ?? [])]));
  }

  /** Tables whose decoded values an expression holds. */
  decodes(node: Node): Set<Table> {
    const found = new Set<Table>();
    walk(node, (each) => {
      const callee = child(each, "callee");
      const object = nameOf(callee) === "decode" ? [child(callee, "object")] : [];
      const read = nameOf(callee) === "get" ? list(each, "arguments") : [];
      for (const table of [...object, ...read].flatMap((from) => this.names.of(from))) found.add(table);
      for (const table of this.helpers.get(helperOf(callee ?? each))?.result ?? []) found.add(table);
    });
    return found;
  }
}

export interface NamedFunction {
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

/** Local names with the names that they come from: `for (const [, values] of Object.entries(pasids))`, `const leaf = { ...fields }`. */
function derivedNames(body: Node): Map<string, string[]> {
  const derived = new Map<string, string[]>();
  const note = (names: Node | undefined, source: Node | undefined) => {
    if (!names || !source || isFunction(source)) return;
    const from = find(source, "Identifier").map((id) => nameOf(id));
    for (const id of find(names, "Identifier")) derived.set(nameOf(id), from);
  };
  walk(body, (node) => {
    if (node.type === "ForOfStatement") note(child(node, "left"), child(node, "right"));
    if (node.type === "VariableDeclarator") note(child(node, "id"), child(node, "init"));
  });
  return derived;
}

/** Files that a file imports by a relative path. */
function importsOf(program: Node, path: string): string[] {
  return find(program, "ImportDeclaration").flatMap((node) => {
    const source = textOf(child(node, "source"));
    return source.startsWith(".") ? [posix.join(posix.dirname(path), source.replace(/\.js$/, ".ts"))] : [];
  });
}
