import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KNOWN_VARIANTS } from "@iommukit/core";
import { describe, expect, it } from "vitest";

const PACKAGES = fileURLToPath(new URL("../packages", import.meta.url));

/** The names that the sources ask for: `variants.has("S-8")`. */
function asked(): Set<string> {
  const names = new Set<string>();
  for (const name of readdirSync(PACKAGES)) {
    const source = join(PACKAGES, name, "src");
    for (const file of readdirSync(source, { recursive: true, encoding: "utf8" })) {
      if (!file.endsWith(".ts")) continue;
      for (const [, bug] of readFileSync(join(source, file), "utf8").matchAll(/\bhas\("([SLV]-\d+)"\)/g))
        names.add(bug);
    }
  }
  return names;
}

describe("KNOWN_VARIANTS", () => {
  it("is exactly what the sources ask for", () => {
    expect([...asked()].toSorted()).toEqual(Object.keys(KNOWN_VARIANTS).toSorted());
  });
});
