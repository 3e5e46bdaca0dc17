/** The README's console blocks, run: what stands there is what the commands print. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { main } from "../src/program.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(`${root}README.md`, "utf8");
const blocks = [...readme.matchAll(/^```console\n\$ iommukit (.*)\n([\s\S]*?)\n```$/gm)].map(([, words, output]) => ({
  words,
  output,
}));

let out = "";

beforeEach(() => {
  out = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

/** The machine's own time is the one thing that differs from run to run. */
function comparable(text: string): string {
  return text.replaceAll(root, "").replaceAll(/^host time .*$/gm, "host time");
}

it("has an example of every command that needs no program of the user's", () => {
  expect(blocks.map(({ words }) => words.split(" ")[0])).toEqual(
    expect.arrayContaining(["explain", "doctor", "replay", "calibrate", "compare"]),
  );
});

it.each(blocks)("iommukit $words", { timeout: 60_000 }, async ({ words, output }) => {
  await main(words.split(" ").map((word) => (word.startsWith("test/") ? root + word : word)));
  expect(comparable(out.trimEnd())).toBe(comparable(output));
});
