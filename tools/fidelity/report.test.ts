/** The check that docs/fidelity rests on: it fires where it must and is silent where it may. */
import { bit, layout, reserved } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import type { Backend } from "./backends.ts";
import { type LeftOut, Report } from "./report.ts";

const backend: Backend = { name: "chip", codeKeys: ["ID"], byField: [], made: () => ({}), codeLists: () => [] };
const entry = layout(
  { name: "Entry", bits: 64, spec: "X 1" },
  { V: bit(0, "valid"), W: bit(1, "writable"), R: reserved(63, 2) },
);
const other = layout({ name: "Other", bits: 64, spec: "X 2" }, { V: bit(0, "valid"), R: reserved(63, 1) });
const IMPORT = 'import { ENTRY, OTHER } from "../spec/entry.js";\n';

function report(hardware: string, test: string, leftOut: LeftOut = { unused: ["OTHER.V"] }, helpers = ""): Report {
  return new Report(
    backend,
    { "chip/src/spec/entry.ts": { ENTRY: entry, OTHER: other } },
    {
      hardware: new Map([["chip/src/hardware/chip.ts", IMPORT + hardware]]),
      driver: new Map(),
      tests: new Map([["chip/test/chip.test.ts", `import { Bench } from "./bench.js";\n${IMPORT}${test}`]]),
      helpers: new Map([["chip/test/bench.ts", IMPORT + helpers]]),
    },
    leftOut,
  );
}

const USES = "const valid = ENTRY.V.lowMask;\nexport const writable = (w) => ENTRY.W.get(w) + valid;";
const titles = (of: Report, key: string) => of.items.find((item) => item.key === key)?.tests.map(({ title }) => title);

describe("the fidelity report", () => {
  it("is silent where every field is used and tested, or left out with a reason", () => {
    expect(report(USES, 'it("a", () => { put(0, ENTRY, { V: 1, W: 0 }); });').problems).toEqual([]);
  });

  it("tells a field that is used without a test", () => {
    expect(report(USES, 'it("a", () => { put(0, ENTRY, { V: 1 }); });').problems).toEqual([
      "ENTRY.W: modelled, but no test speaks of it",
    ]);
  });

  it("tells a field that is neither used nor left out, and one that is both", () => {
    const test = 'it("a", () => { put(0, ENTRY, { V: 1, W: 0 }); });';
    expect(report(USES, test, {}).problems).toEqual(["OTHER.V: the chip does not use it, and no reason is given"]);
    expect(report(USES, test, { unused: ["OTHER.*", "ENTRY.V"] }).problems).toEqual([
      "ENTRY.V: has a reason to be left out, but chip/src/hardware/chip.ts uses it",
    ]);
    expect(report(USES, test, { unused: ["OTHER.V", "ENTRY.X"] }).problems).toEqual([
      "ENTRY.X: has a reason, but no table has it",
    ]);
  });

  it("does not take a field of one table for that of another", () => {
    const test = 'it("a", () => { put(0, OTHER, { V: 1 }); put(0, ENTRY, { W: 1 }); });';
    expect(report(USES, test).problems).toEqual(["ENTRY.V: modelled, but no test speaks of it"]);
  });

  it.each([
    ["a decoded entry", 'it("a", () => { expect(ENTRY.decode(words)).toMatchObject({ V: true, W: false }); });'],
    [
      "a function of the test's file",
      'const set = (v) => put(0, ENTRY, { ...v });\nit("a", () => set({ V: 1, W: 1 }));',
    ],
    ["rows", 'it.each([[{ V: 1 }], [{ W: 1 }]])("a", (values) => { put(0, ENTRY, values); });'],
    ["a constant above", 'const both = { V: 1, W: 1 };\nit("a", () => { put(0, ENTRY, { ...both }); });'],
    [
      "destructuring",
      'it("a", () => { const { V, W } = ENTRY.decode(words); expect([V, W]).toEqual([true, true]); });',
    ],
  ])("follows %s", (_, test) => {
    expect(titles(report(USES, test), "ENTRY.W")).toEqual(["a"]);
  });

  it("follows methods of the test's helpers, apart from functions of the same name", () => {
    const helpers = "export class Bench { set(values) { this.put(0, ENTRY, { ...values }); } }";
    const test = [
      "const set = (x) => x;",
      'it("a", () => { OTHER.words; bench.set({ V: 1 }); });',
      'it("b", () => { OTHER.words; ENTRY.words; set({ V: 1 }); });',
    ];
    const read = report(USES, test.join("\n"), { unused: ["OTHER.V"] }, helpers);
    expect(titles(read, "ENTRY.V")).toEqual(["a"]);
  });
});
