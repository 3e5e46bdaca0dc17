/**
 * docs/registers/*.md come from the field tables: one page per package, one chapter per file of its spec/ (or of its
 * field tables elsewhere). `npm run docs` writes them, this test compares them.
 */
import { type AnyLayout, LayoutTable, toMarkdown } from "@iommukit/core";
import { describe, expect, it } from "vitest";

type Modules = Record<string, Record<string, unknown>>;
type Glob = (patterns: string[], options: { eager: true }) => Modules;

const modules = (import.meta as unknown as { glob: Glob }).glob(
  [
    "../packages/*/src/spec/*.ts",
    "../packages/core/src/mm/page-table/*.ts",
    "../packages/core/src/pci/capabilities/*.ts",
    "../packages/vfio-type1/src/uapi/*.ts",
    "../packages/pci-device/src/capabilities/*.ts",
    "../packages/pci-device/src/devices/**/{registers,descriptor,nic}.ts",
  ],
  { eager: true },
);

/** Tables that a module exports, also inside of records and lists, each once. */
function tablesOf(exports: Record<string, unknown>, seen: Set<unknown>): AnyLayout[] {
  return Object.values(exports).flatMap((value): AnyLayout[] => {
    if (typeof value !== "object" || value === null || seen.has(value)) return [];
    seen.add(value);
    if (value instanceof LayoutTable) return [value];
    return Object.getPrototypeOf(value) === Object.prototype || Array.isArray(value)
      ? tablesOf({ ...value }, seen)
      : [];
  });
}

const pages = new Map<string, string[]>();
const seen = new Set<unknown>();
for (const [path, exports] of Object.entries(modules).sort(([a], [b]) => a.localeCompare(b))) {
  const [, name = "", file = ""] = /packages\/([^/]+)\/.*?([^/]+)\.ts$/.exec(path) ?? [];
  const tables = tablesOf(exports, seen);
  if (tables.length === 0) continue;
  const page = pages.get(name) ?? [
    `# ${name}: registers and tables`,
    "",
    "Written by `npm run docs` from the field tables.",
    "",
  ];
  page.push(`## ${file}`, "", ...tables.map(toMarkdown));
  pages.set(name, page);
}

describe("docs/registers", () => {
  it.each([...pages])("%s is what the field tables say", async (name, page) => {
    await expect(page.join("\n")).toMatchFileSnapshot(`../docs/registers/${name}.md`);
  });
});
