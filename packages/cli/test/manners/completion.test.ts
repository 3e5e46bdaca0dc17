/** The completion scripts in the shells that they are for. A shell that is not here is named; bash always is. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { bashCompletion } from "../../src/manners/completion/bash.js";
import { fishCompletion } from "../../src/manners/completion/fish.js";
import { zshCompletion } from "../../src/manners/completion/zsh.js";
import { pageOf } from "../../src/manners/page.js";
import { createProgram } from "../../src/program.js";

vi.setConfig({ testTimeout: 60_000 });

const whole = pageOf(await createProgram());
const commands = whole.commands.map(({ name }) => name);
const folder = mkdtempSync(join(tmpdir(), "iommukit-completion-"));
writeFileSync(join(folder, "a fault.txt"), "");
afterAll(() => rmSync(folder, { recursive: true }));

function script(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function installed(shell: string): boolean {
  const { status } = spawnSync(shell, ["-c", "true"]);
  if (status !== 0) console.info(`${shell} is not installed: its completion is not tested`);
  return status === 0;
}

describe("bash", () => {
  const path = script("iommukit.bash", bashCompletion(whole));
  const complete = (...words: string[]) =>
    execFileSync(
      "bash",
      [
        "-c",
        `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _iommukit; printf '%s\\n' "\${COMPREPLY[@]}"`,
        "-",
        path,
        "iommukit",
        ...words,
      ],
      { cwd: folder, encoding: "utf8" },
    )
      .trimEnd()
      .split("\n");

  it("completes the commands", () => {
    expect(complete("")).toEqual(expect.arrayContaining(commands));
    expect(complete("expl")).toContain("explain");
  });

  it("completes each command's options", () => {
    for (const { name, options } of whole.commands)
      expect(complete(name, "-").sort()).toEqual(options.flatMap(({ flags }) => flags).sort());
  });

  it("completes values that an option knows, and the words of an argument", () => {
    expect(complete("compare", "--format", "j")).toEqual(["json"]);
    expect(complete("completion", "")).toEqual(["bash", "zsh", "fish"]);
  });

  it("completes files elsewhere, also with spaces", () => {
    expect(complete("explain", "a")).toEqual(["a fault.txt"]);
    expect(complete("explain", "--memory", "a")).toEqual(["a fault.txt"]);
  });
});

describe.runIf(installed("fish"))("fish", () => {
  const path = script("iommukit.fish", fishCompletion(whole));
  const complete = (line: string) =>
    execFileSync("fish", ["--no-config", "-c", "source $argv[1]; complete -C $argv[2]", path, line], {
      cwd: folder,
      encoding: "utf8",
    })
      .trimEnd()
      .split("\n")
      .map((row) => row.split("\t")[0]);

  it("completes commands, options and values", () => {
    expect(complete("iommukit ")).toEqual(expect.arrayContaining(commands));
    expect(complete("iommukit compare --format ").sort()).toContain("json");
    expect(complete("iommukit explain --")).toEqual(expect.arrayContaining(["--as", "--memory", "--ndjson"]));
    expect(complete("iommukit completion z")).toContain("zsh");
  });
});

describe.runIf(installed("zsh"))("zsh", () => {
  const path = script("_iommukit", zshCompletion(whole));

  /** What _arguments and _describe are called with: the completion system itself needs a terminal. */
  function calls(...words: string[]): string {
    const program = `
      autoload -Uz compinit; compdef() { }; _describe() { print -l -- "\${(@P)2}" }
      _arguments() { state=$wanted; line=(${words.slice(0, 1).join("")}); print -l -- "$@" }
      source "$1"; _iommukit`;
    return execFileSync("zsh", ["-f", "-c", `wanted=${words.length > 0 ? "rest" : "command"}; ${program}`, "-", path], {
      encoding: "utf8",
    });
  }

  it("parses, and names commands, options and values", () => {
    execFileSync("zsh", ["-n", path]);
    for (const { name, options } of whole.commands) {
      expect(calls()).toContain(`${name}:`);
      for (const flag of options.flatMap(({ flags }) => flags)) expect(calls(name)).toContain(`*${flag}[`);
    }
    expect(calls("completion")).toContain("(bash zsh fish)");
  });
});
