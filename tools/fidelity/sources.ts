/** Which fields the chip and the driver use: a field is used where its table's accessor is named. */
import { type Code, namesCode } from "./codes.ts";
import { Names } from "./names.ts";
import { child, find, keyOf, list, type Node, nameOf, parse, textOf, walk } from "./syntax.ts";
import type { Table } from "./tables.ts";

/** What every table has, and what does not say that a field is used. */
const OWN = new Set(["index", "offset", "words", "bytes", "bits", "name", "spec", "summary", "fields", "head"]);

export class SourceUses {
  readonly #uses = new Map<Table, Map<string, Set<string>>>();
  readonly #through = new Map<Table, Map<string, Set<string>>>();
  readonly #codes = new Map<Code, Set<string>>();
  /** Names that hold a decoded table: `this.cap = CAP.decode(…)`. */
  readonly #decoded = new Map<string, Table>();
  readonly #files: { path: string; program: Node; names: Names }[];

  constructor(files: ReadonlyMap<string, string>, tables: readonly Table[], codes: readonly Code[]) {
    const all = new Map(tables.map((table) => [table.name, table]));
    this.#files = [...files].map(([path, text]) => {
      const program = parse(path, text);
      return { path, program, names: new Names(program, all) };
    });
    for (const { program, names } of this.#files) walk(program, (node) => this.#noteDecoded(node, names));
    for (const { path, program, names } of this.#files) {
      const rest = list(program, "body").filter(({ type }) => type !== "ImportDeclaration");
      walk({ ...program, body: rest }, (node) => {
        this.#note(node, path, names);
        for (const code of codes) if (namesCode(node, code)) addTo(this.#codes, code, path);
      });
    }
    this.#wholes();
    this.#alike(tables);
  }

  /** Files that use a field, by its own name or through another table that has it at the same place. */
  of(table: Table, field: string): string[] {
    return [...(this.#uses.get(table)?.get(field) ?? this.#through.get(table)?.get(field) ?? [])];
  }

  /** A file that names the field itself. */
  named(table: Table, field: string): string | undefined {
    return [...(this.#uses.get(table)?.get(field) ?? [])][0];
  }

  /** Files that use a code. */
  ofCode(code: Code): string[] {
    return [...(this.#codes.get(code) ?? [])];
  }

  /** The table is named, or the code is whose record or command it is. */
  #used(table: Table): boolean {
    return this.#uses.has(table) || [...this.#codes.keys()].some((code) => code.table === table.name);
  }

  #add(table: Table, field: string, path: string, into = this.#uses): void {
    const fields = into.get(table) ?? new Map<string, Set<string>>();
    into.set(table, fields);
    addTo(fields, field, path);
  }

  #noteDecoded(node: Node, names: Names): void {
    const [target, value] =
      node.type === "AssignmentExpression"
        ? [child(node, "left"), child(node, "right")]
        : node.type === "VariableDeclarator"
          ? [child(node, "id"), child(node, "init")]
          : [undefined, undefined];
    const callee = child(value, "callee");
    if (value?.type !== "CallExpression" || nameOf(callee) !== "decode") return;
    const [table] = names.of(child(callee, "object"));
    if (table && nameOf(target) !== "") this.#decoded.set(nameOf(target), table);
  }

  /** The table whose decoded value an expression is. */
  #value(node: Node | undefined, names: Names): Table | undefined {
    const callee = child(node, "callee");
    if (node?.type === "CallExpression" && nameOf(callee) === "decode") return names.of(child(callee, "object"))[0];
    return this.#decoded.get(nameOf(node));
  }

  #note(node: Node, path: string, names: Names): void {
    for (const table of names.of(node)) this.#add(table, "", path);
    if (node.type === "MemberExpression") {
      const object = child(node, "object");
      const field = nameOf(node);
      for (const table of names.of(object)) if (!OWN.has(field) && has(table, field)) this.#add(table, field, path);
      const value = this.#value(object, names);
      if (value && has(value, field)) this.#add(value, field, path);
    } else if (node.type === "VariableDeclarator" && child(node, "id")?.type === "ObjectPattern") {
      const init = child(node, "init");
      const value = this.#value(init, names);
      for (const property of list(child(node, "id"), "properties"))
        for (const table of value ? [value] : names.of(init))
          if (!OWN.has(keyOf(property)) && has(table, keyOf(property))) this.#add(table, keyOf(property), path);
    } else if (node.type === "CallExpression") {
      this.#noteEncode(node, path, names);
    }
  }

  /** `STE.encode({ V: true })`, `table.write(at, PASID_ENTRY, { P: true })`, `STE.field("V")`. */
  #noteEncode(node: Node, path: string, names: Names): void {
    const callee = child(node, "callee");
    const own = names.of(child(callee, "object"));
    const given = list(node, "arguments").flatMap((argument) => names.of(argument));
    for (const table of [...own, ...given])
      for (const argument of list(node, "arguments")) {
        for (const property of find(argument, "Property"))
          if (has(table, keyOf(property))) this.#add(table, keyOf(property), path);
        if (nameOf(callee) === "field" && has(table, textOf(argument))) this.#add(table, textOf(argument), path);
      }
  }

  /** A register that is read or written as a whole: its only field is meant. */
  #wholes(): void {
    for (const [table, fields] of this.#uses)
      if (table.fields.length === 1)
        for (const path of fields.get("") ?? []) this.#add(table, table.fields[0].name, path);
  }

  /** Fields of the same name at the same place of tables of one file are read through one of them. */
  #alike(tables: readonly Table[]): void {
    for (const table of tables)
      for (const field of table.fields)
        for (const other of tables) {
          const same = other.layout.fields.find(
            ({ name, msb, lsb }) => name === field.name && msb === field.msb && lsb === field.lsb,
          );
          if (other === table || other.file !== table.file || !same || !this.#used(table)) continue;
          for (const path of this.#uses.get(other)?.get(field.name) ?? [])
            this.#add(table, field.name, path, this.#through);
        }
  }
}

function has(table: Table, name: string): boolean {
  return table.fields.some((field) => field.name === name);
}

function addTo<K>(map: Map<K, Set<string>>, key: K, value: string): void {
  map.set(key, (map.get(key) ?? new Set()).add(value));
}
