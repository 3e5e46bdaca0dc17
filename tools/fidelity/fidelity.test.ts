/**
 * docs/fidelity/*.md and the tables in the backends' READMEs: what is modelled, how it is tested, what is left out and why. From
 * the field tables, the sources and the tests; `npm run docs` writes them. An item that the chip uses without a test, or that
 * it does not use without a reason, fails.
 */
import { describe, expect, it } from "vitest";
import { BACKENDS } from "./backends.ts";
import { page, readme } from "./pages.ts";
import { type LeftOut, Report, type Texts } from "./report.ts";
import type { Modules } from "./tables.ts";

interface Glob {
  (patterns: string, options: { eager: true }): Modules;
  (patterns: string, options: { eager: true; query: "?raw"; import: "default" }): Readonly<Record<string, string>>;
}
const specs = (import.meta as unknown as { glob: Glob }).glob("../../packages/iommu-*/src/spec/*.ts", { eager: true });
const raw = (import.meta as unknown as { glob: Glob }).glob(
  "../../packages/iommu-*/{README.md,src/{hardware,driver}/*.ts,test/**/*.ts}",
  {
    eager: true,
    query: "?raw",
    import: "default",
  },
);

/** Texts of a package by path relative to the repository. */
function texts(name: string, pattern: RegExp): Map<string, string> {
  const inside = Object.entries(raw).map(([path, text]) => [path.replace("../../", ""), text] as const);
  return new Map(inside.filter(([path]) => path.startsWith(`packages/${name}/`) && pattern.test(path)));
}

function textsOf(name: string): Texts {
  return {
    hardware: texts(name, /\/src\/hardware\//),
    driver: texts(name, /\/src\/driver\//),
    tests: texts(name, /\/test\/.*\.test\.ts$/),
    helpers: texts(name, /\/test\/(?!.*\.test\.ts$).*\.ts$/),
  };
}

describe.each(BACKENDS.map((backend) => [backend.name, backend] as const))("%s", (name, backend) => {
  const all = Object.entries(specs).filter(([path]) => path.includes(`/${name}/`));
  const leftOut = all.find(([path]) => path.endsWith("/left-out.ts"))?.[1].LEFT_OUT as LeftOut;
  const report = new Report(backend, Object.fromEntries(all), textsOf(name), leftOut);

  it("models every field and code and tests it, or says why not", () => {
    expect(report.problems.join("\n")).toBe("");
  });

  it("has the page of docs/fidelity that follows", async () => {
    await expect(page(report)).toMatchFileSnapshot(`../../docs/fidelity/${name}.md`);
  });

  it("has the tables in its README that follow", async () => {
    const text = texts(name, /\/README\.md$/).get(`packages/${name}/README.md`) ?? "";
    await expect(readme(text, report)).toMatchFileSnapshot(`../../packages/${name}/README.md`);
  });
});
