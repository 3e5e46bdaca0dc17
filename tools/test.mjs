/** `npm test [-- FILTER…]`: every suite with vitest. The last line is `N passed, N failed`. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { totals } from "./totals.mjs";

const dir = mkdtempSync(join(tmpdir(), "iommukit-test-"));
const output = join(dir, "results.json");
const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${output}`, ...process.argv.slice(2)];
const { status } = spawnSync("vitest", args, { stdio: ["ignore", "inherit", "inherit"] });

const { passed, failed } = totals(read(), status);
rmSync(dir, { recursive: true });
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

function read() {
  try {
    return JSON.parse(readFileSync(output, "utf8"));
  } catch {
    return undefined;
  }
}
