/** Every class, interface, type and function that a package exports says in its declaration what it is. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const PACKAGES = fileURLToPath(new URL("../packages", import.meta.url));
const REEXPORT = /^export (?:type )?(\*|\{[^}]*\}) from "(\.[^"]+)\.js";$/gm;
const DECLARATION = /^export (?:abstract |async )?(?:class|interface|type|function) (\w+)/;

/** Names that a source file exports without a comment above them. @param names those that count; all when absent */
function silent(file: string, names?: readonly string[]): string[] {
  const text = readFileSync(file, "utf8");
  const behind = [...text.matchAll(REEXPORT)].flatMap(([, what, path]) => {
    const own = what === "*" ? names : what.match(/\w+(?= as)|\w+(?=[,\s}])/g)?.filter((name) => name !== "type");
    return silent(join(dirname(file), `${path}.ts`), own);
  });
  const lines = text.split("\n");
  const here = lines.flatMap((line, at) => {
    const name = DECLARATION.exec(line)?.[1];
    if (name === undefined || (names !== undefined && !names.includes(name))) return [];
    const above = lines.slice(0, at).findLast((text) => !text.startsWith("@")) ?? "";
    return above.endsWith("*/") ? [] : [`${file.slice(PACKAGES.length + 1)}: ${name}`];
  });
  return [...behind, ...here];
}

/** The command alone has none. */
const LIBRARIES = readdirSync(PACKAGES).filter((name) => existsSync(join(PACKAGES, name, "src/index.ts")));

describe.each(LIBRARIES)("%s", (name) => {
  it("documents what it exports", () => {
    expect(silent(join(PACKAGES, name, "src/index.ts"))).toEqual([]);
  });
});
