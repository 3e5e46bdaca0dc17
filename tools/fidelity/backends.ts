/** The two backends: their code lists, and what their READMEs show field by field. */

import type { AnyLayout } from "@iommukit/core";
import { type Code, type CodeList, hexIs, namesCode, textIs } from "./codes.ts";
import { find, type Node, nameOf } from "./syntax.ts";
import type { Modules, Table } from "./tables.ts";

export interface Backend {
  readonly name: string;
  /** Tables that `spec/` makes in functions, under the names by which the sources call them. */
  made(modules: Modules): Readonly<Record<string, AnyLayout>>;
  codeLists(modules: Modules, tables: readonly Table[]): CodeList[];
  /** Keys of decoded records that hold a code's name. */
  readonly codeKeys: readonly string[];
  /** Tables whose fields stand one by one in the README. */
  readonly byField: readonly string[];
}

type Numbers = Readonly<Record<string, number>>;

function exported<T>(modules: Modules, name: string): T {
  const found = Object.values(modules).find((module) => name in module)?.[name];
  if (found === undefined) throw new Error(`no module of spec/ exports ${name}`);
  return found as T;
}

function numbered(modules: Modules, list: string, tables: readonly Table[], prefix: string): Code[] {
  return Object.entries(exported<Numbers>(modules, list)).map(([name, value]) => {
    const table = tables.find((each) => each.name === prefix + name);
    return {
      name: `${list}.${name}`,
      value,
      label: prefix + name,
      meaning: table?.layout.summary ?? "",
      ...(table ? { table: table.name } : {}),
    };
  });
}

interface Reason {
  readonly code: number;
  readonly condition: string;
  readonly meaning: string;
}

/** Words by which a test says that a number is a fault reason. */
const REASON = new Set(["expectFault", "takeReason", "FR", "reason", "fault", "expectReason"]);
const aboutReasons = new WeakMap<Node, boolean>();

function speaksOfReasons(test: Node): boolean {
  const known = aboutReasons.get(test);
  if (known !== undefined) return known;
  const answer = find(test, "Identifier").some((node) => REASON.has(nameOf(node)));
  aboutReasons.set(test, answer);
  return answer;
}

export const BACKENDS: readonly Backend[] = [
  {
    name: "iommu-smmuv3",
    codeKeys: ["ID"],
    byField: ["STE", "CD"],
    made: () => ({}),
    codeLists: (modules, tables) => [
      {
        title: "Events",
        codes: numbered(modules, "EVENT", tables, ""),
        speaks: (code, node) => namesCode(node, code) || textIs(node, code.label),
      },
      {
        title: "Commands",
        codes: numbered(modules, "OPCODE", tables, "CMD_"),
        speaks: (code, node) =>
          namesCode(node, code) || textIs(node, code.label.slice(4)) || nameOf(node) === code.label,
      },
    ],
  },
  {
    name: "iommu-vtd",
    codeKeys: [],
    byField: [],
    made: (modules) => {
      const { IVA, IOTLB } = exported<(iro: number) => Record<"IVA" | "IOTLB", AnyLayout>>(
        modules,
        "iotlbRegisters",
      )(0);
      return { "iotlbRegisters.IVA": IVA, "iotlbRegisters.IOTLB": IOTLB };
    },
    codeLists: (modules) =>
      [
        ["LegacyFault", "Fault reasons: legacy mode"],
        ["ScalableFault", "Fault reasons: scalable mode"],
        ["InterruptFault", "Fault reasons: interrupt remapping"],
      ].map(([list, title]) => ({
        title,
        codes: Object.entries(exported<Readonly<Record<string, Reason>>>(modules, list)).map(
          ([name, { code, condition, meaning }]): Code => ({
            name: `${list}.${name}`,
            value: code,
            label: condition,
            meaning,
          }),
        ),
        speaks: (code, node, test) => namesCode(node, code) || (hexIs(node, code.value) && speaksOfReasons(test)),
      })),
  },
];
