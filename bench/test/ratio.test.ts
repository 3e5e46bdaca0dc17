/**
 * The regression gate: translations beside C in one run, as ratios of CPU time. The sources are bundled and run by Node alone,
 * as the test runner reaches modules in a slower way. Limits are somewhat below 60 % of README.md's figures.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { beforeAll, describe, expect, it } from "vitest";
import type { Row } from "../src/compare.js";

function compiler(): boolean {
  try {
    execFileSync(process.env.CC ?? "gcc", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function path(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

const LIMITS: readonly (readonly [name: string, backend: string, limit: number])[] = [
  ["hit-rand-1MiB", "smmuv3", 0.38],
  ["hit-rand-1MiB", "vtd", 0.33],
  ["walk-rand-4MiB", "smmuv3", 0.36],
  ["walk-rand-4MiB", "vtd", 0.31],
  ["cold-rand-4MiB", "smmuv3", 0.37],
  ["cold-rand-4MiB", "vtd", 0.3],
];

const possible = compiler();
if (!possible) console.warn("no C compiler: translations are not compared with C");

describe.runIf(possible)("translation beside C", () => {
  beforeAll(async () => {
    await build({
      configFile: false,
      logLevel: "silent",
      resolve: { conditions: ["@iommukit/source"] },
      ssr: { noExternal: true, resolve: { conditions: ["@iommukit/source"] } },
      // Beside the built files: the C source is found from there.
      build: {
        ssr: path("../src/ratios.ts"),
        outDir: path("../dist"),
        emptyOutDir: false,
        rolldownOptions: { output: { entryFileNames: "gate.js" } },
      },
    });
  }, 30_000);

  it.each(LIMITS)("keeps %s of %s above %f of C", { retry: 2 }, (name, backend, limit) => {
    const words = [path("../dist/gate.js"), backend, "700000", name];
    const row: Row = JSON.parse(execFileSync(process.execPath, words, { encoding: "utf8" }));
    expect(row.ratio).toBeGreaterThan(limit);
  });
});
