import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { conformance, type SuiteTable } from "../src/conformance.js";
import { loadFile } from "../src/load.js";
import { Report } from "../src/report.js";

const dir = mkdtempSync(join(tmpdir(), "conformance-"));
afterAll(() => rmSync(dir, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
}

/** A suite whose records are the numbers to judge: even ones pass, odd ones fail, negative ones do not apply. */
const suites: SuiteTable = {
  parity: async () => ({
    holds: "numbers",
    recognises: ({ records }) => records.some((value) => typeof value === "number"),
    async run(files, report) {
      for (const value of files.flatMap((loaded) => loaded.records as number[])) {
        if (value < 0) report.notApplicable("negative");
        else if (value % 2 === 0) report.pass();
        else report.fail(`${value} is odd`);
      }
    },
  }),
};

async function run(...args: string[]) {
  const lines: string[] = [];
  const status = await conformance(args, suites, new Report((line) => lines.push(line)));
  return { status, lines };
}

describe("conformance", () => {
  it("prints failures, what did not apply, and the total last", async () => {
    expect(await run("parity", file("some.json", "[2, 3, -1, 4]"), file("more.json", "[-5]"))).toEqual({
      status: 1,
      lines: ["FAIL 3 is odd", "not applicable: 2 × negative", "2 passed, 1 failed"],
    });
  });

  it("answers status 0 when nothing failed", async () => {
    expect(await run("parity", file("even.json", "[2]"))).toEqual({ status: 0, lines: ["1 passed, 0 failed"] });
  });

  it.each([
    [["nosuch", "x"], 'unknown suite "nosuch" (suites: parity)'],
    [["toString", "x"], 'unknown suite "toString" (suites: parity)'],
    [[], "usage: conformance SUITE FILE… (suites: parity)"],
    [["parity"], "usage: conformance parity FILE…"],
  ])("refuses %j in one line", async (args, message) => {
    await expect(run(...args)).rejects.toThrow(message);
  });

  it("refuses a file that has nothing for the suite in it", async () => {
    const path = file("words.json", '["two"]');
    await expect(run("parity", file("two.json", "[2]"), path)).rejects.toThrow(`${path} holds no numbers`);
  });

  it("refuses a file that is not there", async () => {
    await expect(run("parity", join(dir, "absent"))).rejects.toThrow(/^cannot read .*absent: ENOENT/);
  });
});

describe("loadFile", () => {
  it("reads JSON lines, gzipped, whatever the file's name", () => {
    const path = file("lines", gzipSync('{"a":1}\n\n{"a":2}\n'));
    expect(loadFile(path)).toEqual({
      path,
      name: "lines",
      document: [{ a: 1 }, { a: 2 }],
      records: [{ a: 1 }, { a: 2 }],
    });
  });

  it("reads one JSON value as one record", () => {
    expect(loadFile(file("one.json", '{"cases":[]}'))).toMatchObject({
      document: { cases: [] },
      records: [{ cases: [] }],
    });
  });

  it.each([
    ["part of a line", "00fff8000 size=4096"],
    ["lost events", "CPU:0 [LOST 12 EVENTS]"],
    ["a task with a blank in its name", "  my dd-259     [000] d.h1.    12.000001: unmap: x"],
  ])("reads a function trace that begins with %s", (_what, first) => {
    const lines = [first, "   dd-259     (    259) [000]    12.000001: map: x"];
    expect(loadFile(file("trace", lines.join("\n"))).records).toEqual(lines);
  });

  it("names the first line that is not JSON", () => {
    expect(() => loadFile(file("bad.jsonl", "{}\n{]\n"))).toThrow("line 2 is not JSON");
  });

  it("refuses an empty file", () => {
    expect(() => loadFile(file("empty.jsonl", ""))).toThrow("it is empty");
  });
});
