/** docs/cli/*.md and the man pages are what the commands say of themselves. `npm run docs` writes them. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { manName, manPage } from "../../src/manners/man-page.js";
import { markdownPage } from "../../src/manners/markdown-page.js";
import { pageOf } from "../../src/manners/page.js";
import { createProgram } from "../../src/program.js";
import { version } from "../../src/version.js";

const program = await createProgram();
const whole = pageOf(program);
const pages = [whole, ...whole.commands];
const names = (folder: string) => readdirSync(new URL(folder, import.meta.url)).sort();

describe("the pages of the commands", () => {
  it.each(pages)("of $name are what its help says", async (page) => {
    await expect(markdownPage(page)).toMatchFileSnapshot(`../../../../docs/cli/${page.name}.md`);
    await expect(manPage(page, version())).toMatchFileSnapshot(`../../man/${manName(page)}.1`);
  });

  it("are there for each command and for nothing else", () => {
    expect(names("../../../../docs/cli/")).toEqual(pages.map(({ name }) => `${name}.md`).sort());
    expect(names("../../man/")).toEqual(pages.map((page) => `${manName(page)}.1`).sort());
  });

  it("are named in package.json: npm installs no others for man", () => {
    const { man } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
      man: string[];
    };
    expect(man.toSorted()).toEqual(names("../../man/").map((name) => `./man/${name}`));
  });
});

/** "dmesg | iommukit explain -v > out" → ["explain", "-v"]. */
function wordsOf(line: string): string[] {
  const after = / iommukit (.*)/.exec(` ${line.replaceAll(/[("$]/g, " ")}`)?.[1] ?? "";
  return after
    .split(/ (?:\||>)|[)]/)[0]
    .trim()
    .split(/ +/);
}

const examples = whole.commands.flatMap(({ name, sections }) =>
  sections
    .filter(({ title }) => title === "Examples")
    .flatMap(({ lines }) =>
      lines.filter((line) => line.startsWith("  $ ")).map((line) => ({ name, line: line.slice(4) })),
    ),
);

describe("the examples of the help", () => {
  it("are there for every command", () => {
    expect(new Set(examples.map(({ name }) => name))).toEqual(
      new Set(program.commands.map((command) => command.name())),
    );
  });

  it.each(examples)("$line", async ({ name, line }) => {
    const parsed = await createProgram([name]);
    let ran = 0;
    for (const command of parsed.commands) command.action(() => void ran++);
    await parsed.parseAsync(wordsOf(line), { from: "user" });
    expect(ran).toBe(1);
  });
});
