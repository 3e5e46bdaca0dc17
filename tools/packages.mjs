/**
 * `node tools/packages.mjs`: packs every public package, installs them into an empty project outside of this repository,
 * and runs the README's example there as JavaScript and under the TypeScript compiler, and every example under its strictest
 * rules for optional properties; then bundles what is meant for browsers and looks for Node in it. `--node VERSION` runs the example under another Node as well.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { readmeBlocks, readmeExample } from "./readme-example.mjs";

const { values } = parseArgs({ options: { node: { type: "string" } } });
const TYPESCRIPT = ["--strict", "--target", "es2023", "--module", "nodenext", "--outDir", "out", "--rootDir", "src"];
const BROWSER = ["core", "iommu-smmuv3", "iommu-vtd", "pci-device", "vfio-type1"];
const { devDependencies } = JSON.parse(readFileSync("package.json", "utf8"));
const project = mkdtempSync(join(tmpdir(), "iommukit-packages-"));
let passed = 0;
let failed = 0;

/**
 * @param {string} title
 * @param {() => void} body
 */
function step(title, body) {
  try {
    body();
    passed++;
    console.log(`ok   ${title}`);
  } catch (error) {
    failed++;
    const {
      stdout = "",
      stderr = "",
      message,
    } = /** @type {{ stdout?: string, stderr?: string, message: string }} */ (error);
    console.log(`FAIL ${title}: ${message}\n${stdout}${stderr}`);
  }
}

/**
 * @param {string} command
 * @param {string[]} words
 */
function run(command, ...words) {
  return execFileSync(command, words, { cwd: project, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

try {
  const { code, output } = readmeExample(readFileSync("README.md", "utf8"));
  const expected = output.trim();
  /** @param {string} found */
  const same = (found) => {
    if (found.trim() !== expected) throw new Error(`printed\n${found}\ninstead of\n${expected}`);
  };
  step("npm pack", () => {
    for (const name of readdirSync("packages")) {
      execFileSync("npm", ["pack", "--silent", "--pack-destination", project, "-w", `packages/${name}`], {
        stdio: "pipe",
      });
    }
  });
  const tarballs = readdirSync(project).filter((file) => file.endsWith(".tgz"));
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  step("npm install into an empty project", () => {
    const tools = ["typescript", "@types/node", "vite", "tsyringe", "reflect-metadata"].map(
      (name) => `${name}@${devDependencies[name]}`,
    );
    run("npm", "install", "--silent", "--no-audit", "--no-fund", ...tarballs.map((file) => `./${file}`), ...tools);
  });
  mkdirSync(join(project, "src"));
  writeFileSync(join(project, "src/example.ts"), code);
  writeFileSync(join(project, "example.mjs"), code);
  step("the README's example as JavaScript", () => same(run("node", "example.mjs")));
  if (values.node)
    step(`the same under Node ${values.node}`, () => same(run("npx", "--yes", `node@${values.node}`, "example.mjs")));
  step("the README's example as TypeScript", () => {
    run("npx", "tsc", ...TYPESCRIPT, "--types", "", "--lib", "es2023,dom", "src/example.ts");
    same(run("node", "out/example.js"));
  });
  cpSync("examples/src", join(project, "src/examples"), { recursive: true });
  step("the examples as TypeScript, devices and IOMMUs of one's own among them", () => {
    const files = readdirSync(join(project, "src/examples")).filter((file) => /^\d/.test(file) && file.endsWith(".ts"));
    const paths = files.map((file) => `src/examples/${file}`);
    run("npx", "tsc", ...TYPESCRIPT, "--types", "node", "--exactOptionalPropertyTypes", ...paths);
    for (const file of files.map((path) => path.replace(/\.ts$/, ""))) {
      const found = run("node", `out/examples/${file}.js`);
      if (found !== readFileSync(`examples/expected/${file}.txt`, "utf8")) throw new Error(`${file} printed\n${found}`);
    }
  });
  step("the blocks of the packages' READMEs as TypeScript", () => {
    const files = readdirSync("packages").flatMap((name) =>
      readmeBlocks(readFileSync(`packages/${name}/README.md`, "utf8")).map((block, n) => {
        const file = `readme-${name}-${n}`;
        writeFileSync(join(project, `src/${file}.ts`), `${block}\nexport {};\n`);
        return file;
      }),
    );
    run("npx", "tsc", ...TYPESCRIPT, "--types", "node", ...files.map((file) => `src/${file}.ts`));
    for (const file of files) run("node", `out/${file}.js`);
  });
  step("iommukit --version", () => void run("npx", "iommukit", "--version"));
  step("a browser bundle without Node", () => {
    const imports = BROWSER.map((name, i) => `import * as p${i} from "@iommukit/${name}";`).join("\n");
    writeFileSync(join(project, "index.html"), '<script type="module" src="/browser.js"></script>');
    writeFileSync(
      join(project, "browser.js"),
      `${imports}\nconsole.log(${BROWSER.map((_, i) => `p${i}`).join(", ")});\n`,
    );
    run("npx", "vite", "build", "--logLevel", "warn");
    for (const file of readdirSync(join(project, "dist/assets"))) {
      const text = readFileSync(join(project, "dist/assets", file), "utf8");
      const found = /["'`]node:[a-z/]+["'`]|__vite-browser-external/.exec(text);
      if (found) throw new Error(`${file} holds ${found[0]}`);
    }
  });
} finally {
  rmSync(project, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
