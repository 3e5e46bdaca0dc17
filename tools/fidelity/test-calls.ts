/** The tests of a file, their rows and titles, and what the variables in them stand for. */
import { child, childrenOf, find, isFunction, keyOf, list, type Node, nameOf, textOf, walk } from "./syntax.ts";

const TEST = new Set(["it", "test"]);

/** Calls of `it`, `it.each(…)`, `it.prop(…)`. */
export function testsIn(program: Node): Node[] {
  return find(program, "CallExpression").filter((call) => {
    let callee = child(call, "callee");
    if (callee?.type === "CallExpression") callee = child(callee, "callee");
    const root = callee?.type === "MemberExpression" ? child(callee, "object") : callee;
    return TEST.has(nameOf(root)) && list(call, "arguments").some(isFunction);
  });
}

/** The rows of `it.each(rows)(…)`. */
function rowsOf(call: Node): Node | undefined {
  const callee = child(call, "callee");
  return callee?.type === "CallExpression" ? list(callee, "arguments")[0] : undefined;
}

/** A test's title; after that of the block around it where it is only a row's. */
export function titleOf(call: Node, program: Node): string {
  const title = textOf(list(call, "arguments")[0]);
  if (!title.startsWith("%")) return title;
  const blocks = find(program, "CallExpression").filter(
    (each) => nameOf(child(each, "callee")) === "describe" && each.start < call.start && call.end <= each.end,
  );
  return [...blocks.slice(-1).map((block) => textOf(list(block, "arguments")[0])), title].join(": ");
}

/** What a variable stands for at a place of a file: the last thing that it was given above. */
export class Values {
  readonly #given = new Map<string, { readonly value: Node; readonly from: number; readonly to: number }[]>();

  constructor(program: Node) {
    walk(program, (node) => {
      const init = child(node, "init");
      if (node.type === "VariableDeclarator" && init && !isFunction(init))
        this.#add(child(node, "id"), init, node.start);
      if (node.type === "ForOfStatement") this.#add(child(node, "left"), child(node, "right"), node.start);
    });
    for (const call of testsIn(program)) {
      const rows = rowsOf(call);
      const body = list(call, "arguments").find(isFunction);
      if (rows && body) for (const each of list(body, "params")) this.#add(each, rows, body.start, body.end);
    }
  }

  #add(names: Node | undefined, value: Node | undefined, from: number, to = Number.POSITIVE_INFINITY): void {
    if (!names || !value) return;
    for (const id of find(names, "Identifier"))
      this.#given.set(nameOf(id), [...(this.#given.get(nameOf(id)) ?? []), { value, from, to }]);
  }

  of(node: Node): Node | undefined {
    const all = node.type === "Identifier" ? this.#given.get(nameOf(node)) : undefined;
    return all
      ?.filter(({ from, to }) => from < node.start && node.start < to)
      .toSorted((a, b) => a.from - b.from)
      .at(-1)?.value;
  }
}

/** Names of properties and texts below an argument, through variables, but not inside of other calls. */
export function namesUnder(node: Node, values: Values, seen = new Set<Node>()): Set<string> {
  const names = new Set<string>();
  if (seen.has(node)) return names;
  seen.add(node);
  if (node.type === "CallExpression" || isFunction(node)) return names;
  if (node.type === "Property") names.add(keyOf(node));
  if (textOf(node) !== "") names.add(textOf(node));
  const value = values.of(node);
  for (const inner of value ? [value] : childrenOf(node))
    for (const name of namesUnder(inner, values, seen)) names.add(name);
  return names;
}
