/**
 * The regression gate: translations beside C in one run, as ratios of CPU time. The sources are bundled and run by Node alone,
 * as the test runner reaches modules in a slower way. Limits are about 60 % of README.md's figures.
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

const LIMITS: readonly (readonly [name: string, smmuv3: number, vtd: number])[] = [
  ["hit-rand-1MiB", 0.32, 0.28],
  ["walk-rand-4MiB", 0.28, 0.24],
  ["cold-rand-4MiB", 0.28, 0.24],
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

  it.each(LIMITS)("keeps %s above %f of C for the SMMUv3 and %f for VT-d", { retry: 2 }, (name, smmuv3, vtd) => {
    const output = execFileSync(process.execPath, [path("../dist/gate.js"), "300000", name], { encoding: "utf8" });
    const rows: readonly Row[] = JSON.parse(output);
    const ratio = (backend: string) => rows.find((row) => row.backend === backend)?.ratio;
    expect(ratio("smmuv3")).toBeGreaterThan(smmuv3);
    expect(ratio("vtd")).toBeGreaterThan(vtd);
  });
});
