/** The README's TypeScript example runs, and prints what the README says. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it, vi } from "vitest";
import { readmeExample } from "./readme-example.mjs";

describe("README.md", () => {
  it("prints with its example what stands below the example", async () => {
    const { code, output } = readmeExample(readFileSync(new URL("../README.md", import.meta.url), "utf8"));
    const folder = fileURLToPath(new URL("./dist/readme/", import.meta.url));
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${folder}example.ts`, code);
    const lines: string[] = [];
    const log = vi.spyOn(console, "log").mockImplementation((...words: unknown[]) => {
      lines.push(words.map((word) => (typeof word === "string" ? word : JSON.stringify(word))).join(" "));
    });
    await import(`${folder}example.ts`);
    log.mockRestore();
    expect(`${lines.join("\n")}\n`).toBe(output);
  }, 60_000);
});
