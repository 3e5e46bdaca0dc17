/**
 * Every event of the export against the documented format. Perfetto's own trace_processor is a native binary that no npm
 * package ships, so it does not run here.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { TextFile } from "../../src/manners/text-file.js";
import { PerfettoWriter } from "../../src/replay/perfetto.js";
import { type ChromeEvent, problems } from "./chrome-trace.js";
import { map, phase, type ReplayOptions, replay, unmap } from "./lines.js";

async function exported(lines: Iterable<string>, options: ReplayOptions = {}): Promise<ChromeEvent[]> {
  let text = "";
  const writer = new PerfettoWriter((more) => {
    text += more;
  });
  await replay(lines, { ...options, watcher: writer });
  writer.close();
  return JSON.parse(text) as ChromeEvent[];
}

const LINES = [
  phase("first"),
  map(0x10_0000, 0x3000),
  map(0x20_0000),
  unmap(0x10_1000),
  phase("second").replace("1.000001", "1.500000"),
  unmap(0x20_0000).replace("1.000002", "2.000000"),
  unmap(0x70_0000),
];

describe("the checks of the format", () => {
  it("find what is wrong", () => {
    const slice = { ph: "X", name: "a", cat: "c", pid: 1, tid: 1, ts: 0, dur: 2 };
    const async = { ph: "b", name: "a", cat: "c", id: "0x1", pid: 1, tid: 0, ts: 0, args: {} };
    expect(problems([slice, { ...slice, ts: 1 }])).toEqual([expect.stringMatching(/^overlaps/)]);
    expect(problems([async])).toEqual(["1/c/0x1 never ends"]);
    expect(problems([{ ...async, ph: "e" }])).toEqual([expect.stringMatching(/^ends what has not begun/)]);
    expect(problems([{ ph: "C", name: "a", pid: 1, ts: 0, args: { x: "1" } }])).toHaveLength(1);
    expect(problems([{ ph: "B", name: "a", pid: 1, ts: 0 }])).toEqual([expect.stringMatching(/^an unknown phase/)]);
  });
});

describe("the Perfetto export", () => {
  it("is what the format asks for, event by event", async () => {
    const events = await exported(LINES, { modes: ["strict", "lazy"] });
    expect(problems(events)).toEqual([]);
    expect(new Set(events.map(({ ph }) => ph))).toEqual(new Set(["M", "X", "b", "e", "C"]));
  });

  it("has phases as slices that follow each other, in microseconds", async () => {
    const slices = (await exported(LINES)).filter(({ ph }) => ph === "X");
    expect(slices.map(({ name, ts, dur }) => [name, ts, dur])).toEqual([
      ["first", 1_000_001, 499_999],
      ["second", 1_500_000, 500_000],
    ]);
  });

  it("ends a mapping with its unmap; what an unmap leaves of it goes on, and ends with the trace", async () => {
    const events = (await exported(LINES)).filter(({ ph }) => ph === "b" || ph === "e");
    expect(events.map(({ ph, id }) => [ph, id])).toEqual([
      ["b", "0x1"],
      ["b", "0x2"],
      ["e", "0x1"],
      ["b", "0x3"],
      ["b", "0x4"],
      ["e", "0x2"],
      ["e", "0x3"],
      ["e", "0x4"],
    ]);
    expect(events[0].args).toEqual({ iova: "0x100000", paddr: "0x40000000", bytes: 0x3000 });
    expect(events[7].args).toEqual({ unmapped: false });
  });

  it("counts tables and commands for each configuration", async () => {
    const events = await exported(LINES);
    const counters = events.filter(({ ph }) => ph === "C");
    expect(counters.map(({ name, args }) => [name, args])).toEqual([
      ["translation tables", { KiB: 20 }],
      ["commands", { consumed: expect.any(Number) as number }],
      ["translation tables", { KiB: 24 }],
      ["commands", { consumed: expect.any(Number) as number }],
    ]);
  });

  it("goes to a file in pieces", async () => {
    const folder = mkdtempSync(join(tmpdir(), "iommukit-perfetto-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = new TextFile(join(folder, "out.json"));
    const writer = new PerfettoWriter((text) => file.write(text));
    await replay(
      Array.from({ length: 2000 }, (_, n) => map(n * 0x1000)),
      { watcher: writer },
    );
    writer.close();
    file.close();
    const events = JSON.parse(readFileSync(join(folder, "out.json"), "utf8")) as ChromeEvent[];
    expect(problems(events)).toEqual([]);
    expect(events.filter(({ ph }) => ph === "b")).toHaveLength(2000);
  });
});
