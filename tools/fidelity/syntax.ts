/** The few things that the fidelity pages need of a source's syntax tree (ESTree, as vite's parser gives it). */
import { parseSync } from "vite";

export interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

export function parse(path: string, text: string): Node {
  const { program, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0].message}`);
  return program as unknown as Node;
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && typeof (value as Node).type === "string";
}

export function childrenOf(node: Node): Node[] {
  return Object.values(node).flat().filter(isNode);
}

/** Every node below and including `node`, parents first. */
export function walk(node: Node, enter: (node: Node) => void): void {
  enter(node);
  for (const child of childrenOf(node)) walk(child, enter);
}

export function find(node: Node, type: string): Node[] {
  const found: Node[] = [];
  walk(node, (each) => {
    if (each.type === type) found.push(each);
  });
  return found;
}

export const child = (node: Node | undefined, key: string) => node?.[key] as Node | undefined;
export const list = (node: Node | undefined, key: string) => (node?.[key] ?? []) as readonly Node[];

/** What an expression is called: the identifier, or the last name of a member chain; "" for others. */
export function nameOf(node: Node | undefined): string {
  switch (node?.type) {
    case "Identifier":
      return String(node.name);
    case "PrivateIdentifier":
      return `#${String(node.name)}`;
    case "ThisExpression":
      return "this";
    case "MemberExpression":
      return node.computed === true ? "" : nameOf(child(node, "property"));
    case "TSNonNullExpression":
    case "TSAsExpression":
    case "ChainExpression":
      return nameOf(child(node, "expression"));
    default:
      return "";
  }
}

/** The text of a string literal or of a template's fixed parts. */
export function textOf(node: Node | undefined): string {
  if (node?.type === "Literal" && typeof node.value === "string") return node.value;
  if (node?.type === "TemplateLiteral")
    return list(node, "quasis")
      .map((quasi) => (quasi.value as { cooked: string }).cooked)
      .join("…");
  return "";
}

/** The name of a property of an object literal or pattern. */
export function keyOf(property: Node): string {
  const key = child(property, "key");
  return property.computed === true ? "" : nameOf(key) || textOf(key);
}

export const isFunction = ({ type }: Node) =>
  type === "ArrowFunctionExpression" || type === "FunctionExpression" || type === "FunctionDeclaration";
