/** `npm run check`: every static check, two at a time. One line per step; a step's output only when it fails. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const LANES = 2;
const packed = mkdtempSync(join(tmpdir(), "iommukit-check-"));
const published = readdirSync("packages")
  .map((dir) => JSON.parse(readFileSync(join("packages", dir, "package.json"), "utf8")))
  .filter((manifest) => !manifest.private);
/** @param {{ name: string, version: string }} manifest */
const tarball = ({ name, version }) => join(packed, `${name.replace("@", "").replace("/", "-")}-${version}.tgz`);

/** @typedef {{ name: string, command: string[], next?: Step[] }} Step a step, and those that need its result */
/** @type {Step[]} */
const steps = [
  {
    name: "types (tsc -b)",
    command: ["tsc", "-b"],
    next: [
      {
        name: "pack",
        command: ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", packed].concat(
          published.flatMap(({ name }) => ["--workspace", name]),
        ),
        next: published.flatMap((manifest) => [
          { name: `publint ${manifest.name}`, command: ["publint", tarball(manifest), "--strict"] },
          { name: `attw ${manifest.name}`, command: ["attw", tarball(manifest), "--profile", "esm-only"] },
        ]),
      },
    ],
  },
  { name: "format (biome)", command: ["biome", "ci", "--colors=off"] },
  { name: "lint (oxlint)", command: ["oxlint", "--type-aware", "--deny-warnings"] },
  { name: "layers", command: ["vitest", "run", "--project", "@iommukit/tools", "layers"] },
  { name: "dead code (knip)", command: ["knip"] },
];

let failed = 0;
const queue = [...steps];
const started = Date.now();
await runQueue();
rmSync(packed, { recursive: true });
console.log(
  failed === 0 ? `all checks passed in ${seconds(started)}` : `${failed} checks failed in ${seconds(started)}`,
);
process.exitCode = failed > 0 ? 1 : 0;

/** Starts steps while a lane is free; resolves when nothing runs and nothing waits. */
async function runQueue() {
  const running = new Set();
  while (queue.length > 0 || running.size > 0) {
    while (queue.length > 0 && running.size < LANES) {
      const lane = runStep(/** @type {Step} */ (queue.shift())).finally(() => running.delete(lane));
      running.add(lane);
    }
    await Promise.race(running);
  }
}

/** @param {Step} step */
async function runStep({ name, command, next = [] }) {
  const start = Date.now();
  const { status, output } = await capture(command);
  console.log(`${status === 0 ? "ok  " : "FAIL"} ${name} ${seconds(start)}`);
  if (status === 0) queue.push(...next);
  else {
    failed++;
    console.log(output.trimEnd());
    if (next.length > 0) console.log(`     not run: ${next.map((step) => step.name).join(", ")}`);
  }
}

/** @param {string[]} command @returns {Promise<{ status: number | null, output: string }>} */
function capture([file, ...args]) {
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1" } });
    const collect = (/** @type {Buffer} */ chunk) => {
      output += chunk;
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", (error) => resolve({ status: null, output: error.message }));
    child.on("close", (status) => resolve({ status, output }));
  });
}

/** @param {number} since */
function seconds(since) {
  return `${((Date.now() - since) / 1000).toFixed(1)} s`;
}
