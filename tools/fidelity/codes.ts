/** Items that are numbers rather than fields: event numbers, opcodes, fault reasons. */
import { child, type Node, nameOf, textOf } from "./syntax.ts";

export interface Code {
  /** As the sources say it: "EVENT.F_UUT", "LegacyFault.ROOT_NOT_PRESENT". */
  readonly name: string;
  readonly value: number;
  /** The specification's name: "F_UUT", "LRT.2". */
  readonly label: string;
  readonly meaning: string;
  /** Table of the record or command that the code stands for. */
  readonly table?: string;
}

/** A record of codes that a `spec/` module exports, and how tests speak of one. */
export interface CodeList {
  readonly title: string;
  readonly codes: readonly Code[];
  /** Whether a node of a test speaks of the code. */
  speaks(code: Code, node: Node, test: Node): boolean;
}

/** `EVENT.F_UUT` or `s.EVENT.F_UUT`, in sources and tests. */
export function namesCode(node: Node, { name }: Code): boolean {
  const [list, member] = name.split(".");
  return node.type === "MemberExpression" && nameOf(node) === member && nameOf(child(node, "object")) === list;
}

/** A text that is the code's label: the event of a decoded record, the value of an opcode. */
export function textIs(node: Node, text: string): boolean {
  return textOf(node) === text;
}

/** A number in two hexadecimal digits, as fault reasons are written. */
export function hexIs(node: Node, value: number): boolean {
  return (
    node.type === "Literal" && typeof node.raw === "string" && node.raw === `0x${value.toString(16).padStart(2, "0")}`
  );
}
