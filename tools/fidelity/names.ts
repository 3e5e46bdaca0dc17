/** Which tables a name stands for in one file: imports, aliases, properties and parameters that hold a table. */
import { child, keyOf, list, type Node, nameOf, walk } from "./syntax.ts";
import type { Table } from "./tables.ts";

export class Names {
  readonly #tables = new Map<string, Set<Table>>();
  /** Namespaces: `import * as r`. */
  readonly #spaces = new Set<string>();

  constructor(
    program: Node,
    private readonly all: ReadonlyMap<string, Table>,
  ) {
    walk(program, (node) => {
      if (node.type === "ImportDeclaration") this.#import(node);
    });
    // Twice: an alias may stand before what it is an alias of.
    for (let round = 0; round < 2; round++) walk(program, (node) => this.#bind(node));
  }

  #import(node: Node): void {
    for (const specifier of list(node, "specifiers")) {
      const local = nameOf(child(specifier, "local"));
      if (specifier.type === "ImportNamespaceSpecifier") this.#spaces.add(local);
      this.#add(local, this.#exported(nameOf(child(specifier, "imported"))));
    }
  }

  /** A table, or every table of a group: `FE` holds `FE.CTL`. */
  #exported(name: string): Table[] {
    const table = this.all.get(name);
    return table ? [table] : [];
  }

  #add(name: string, tables: readonly Table[]): void {
    if (name === "" || tables.length === 0) return;
    const known = this.#tables.get(name) ?? new Set();
    for (const table of tables) known.add(table);
    this.#tables.set(name, known);
  }

  #bind(node: Node): void {
    if (node.type === "VariableDeclarator") {
      const id = child(node, "id");
      if (id?.type === "Identifier") this.#add(nameOf(id), this.of(child(node, "init")));
      else if (id?.type === "ObjectPattern") this.#destructure(id, child(node, "init"));
    } else if (node.type === "Property") {
      this.#add(keyOf(node), this.of(child(node, "value")));
    } else if (node.type === "Identifier" || node.type === "PropertyDefinition") {
      const annotation = child(child(node, "typeAnnotation"), "typeAnnotation");
      if (annotation) this.#add(nameOf(node) || keyOf(node), this.#ofType(annotation));
    } else if (node.type === "ForOfStatement") {
      const variable = child(list(child(node, "left"), "declarations")[0], "id");
      const right = child(node, "right");
      if (right?.type === "ArrayExpression")
        this.#add(
          nameOf(variable),
          list(right, "elements").flatMap((element) => this.of(element)),
        );
    }
  }

  /** `const { CR0 } = r`, and the groups of event and IOTLB registers, whose names say which table it is. */
  #destructure(pattern: Node, init: Node | undefined): void {
    for (const property of list(pattern, "properties")) {
      const name = keyOf(property);
      const local = nameOf(child(property, "value"));
      const inSpace = this.#spaces.has(nameOf(init)) ? this.#exported(name) : [];
      this.#add(local, inSpace.length > 0 ? inSpace : this.#members(name));
    }
  }

  /** Tables of groups, by the name inside of the group. */
  #members(name: string): Table[] {
    return [...this.all.values()].filter((table) => table.name.endsWith(`.${name}`));
  }

  #ofType(annotation: Node): Table[] {
    if (annotation.type === "TSTypeQuery") {
      const name = child(annotation, "exprName");
      return this.#exported(nameOf(name) || nameOf(child(name, "right")));
    }
    return list(annotation, "types").flatMap((each) => this.#ofType(each));
  }

  /** The tables that an expression is. */
  of(node: Node | null | undefined): Table[] {
    if (!node) return [];
    if (node.type === "TSAsExpression" || node.type === "TSNonNullExpression")
      return this.of(child(node, "expression"));
    if (node.type === "Identifier") return [...(this.#tables.get(nameOf(node)) ?? [])];
    if (node.type !== "MemberExpression") return [];
    const name = nameOf(node);
    const object = child(node, "object");
    if (object?.type === "Identifier") {
      if (this.#spaces.has(nameOf(object))) return this.#exported(name);
      const member = this.all.get(`${nameOf(object)}.${name}`);
      if (member) return [member];
      // A field of a table is no table.
      if (this.#tables.has(nameOf(object))) return [];
    }
    if (object?.type === "MemberExpression" && this.of(object).length > 0) return [];
    return [...(this.#tables.get(name) ?? [])];
  }
}
