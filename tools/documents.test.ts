/** What the documents point at is there: relative links with their anchors, and source files that are named in backticks. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FILES = execFileSync("git", ["ls-files"], { cwd: ROOT, encoding: "utf8" }).trim().split("\n");
const DOCUMENTS = FILES.filter((file) => file.endsWith(".md"));

/** As GitHub makes them of headings. */
function anchors(document: string): string[] {
  return [...readFileSync(join(ROOT, document), "utf8").matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}

function isThere(document: string, link: string): boolean {
  const [path, anchor] = link.split("#");
  const target = path === "" ? document : join(dirname(document), path);
  return (
    existsSync(join(ROOT, target)) &&
    (anchor === undefined || !target.endsWith(".md") || anchors(target).includes(anchor))
  );
}

describe.each(DOCUMENTS)("%s", (document) => {
  const text = readFileSync(join(ROOT, document), "utf8");

  it("links to what is there", () => {
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link).filter((link) => !/^\w+:/.test(link));
    expect(links.filter((link) => !isThere(document, link))).toEqual([]);
  });

  it("names source files that are there", () => {
    const names = [...text.matchAll(/`([\w./-]+\.ts)`/g)].map(([, name]) => name);
    const isKnown = (name: string) => FILES.some((file) => file === name || file.endsWith(`/${name}`));
    expect(names.filter((name) => !isKnown(name))).toEqual([]);
  });
});
