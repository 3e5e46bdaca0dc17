/**
 * `npm test [-- FILTER…]`: every suite with vitest. The last line is `N passed, N failed`. With `--outputFile.json=FILE` the
 * report of the run stays there.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { totals } from "./totals.mjs";

const OUTPUT = "--outputFile.json=";
const dir = mkdtempSync(join(tmpdir(), "iommukit-test-"));
const given = process.argv.slice(2);
const output = given.find((arg) => arg.startsWith(OUTPUT))?.slice(OUTPUT.length) ?? join(dir, "results.json");
const others = given.filter((arg) => !arg.startsWith(OUTPUT));
const args = ["run", "--reporter=default", "--reporter=json", `${OUTPUT}${output}`, ...others];
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
