/**
 * Every event of the export against Chrome's JSON trace format ("Trace Event Format", Google) and what Perfetto says of it:
 * slices of one track must not overlap, async events pair up by category and id, counters are numbers. Perfetto's own
 * trace_processor is a native binary that no npm package ships, so it does not run here.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { PerfettoWriter } from "../../src/replay/perfetto.js";
import { TextFile } from "../../src/replay/text-file.js";
import { map, phase, type ReplayOptions, replay, unmap } from "./lines.js";

interface Event {
  readonly ph: string;
  readonly name: string;
  readonly pid: number;
  readonly tid?: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly id?: string;
  readonly cat?: string;
  readonly args?: Readonly<Record<string, unknown>>;
}

async function exported(lines: Iterable<string>, options: ReplayOptions = {}): Promise<Event[]> {
  let text = "";
  const writer = new PerfettoWriter((more) => {
    text += more;
  });
  await replay(lines, { ...options, watcher: writer });
  writer.close();
  return JSON.parse(text) as Event[];
}

const COMMON = ["ph", "name", "pid"];
/** Fields of each phase: those that must be there, and those that may be. */
const FIELDS: Readonly<Record<string, readonly [must: readonly string[], may: readonly string[]]>> = {
  M: [["args"], ["tid"]],
  X: [["tid", "ts", "dur", "cat"], ["args"]],
  b: [["tid", "ts", "cat", "id", "args"], []],
  e: [["tid", "ts", "cat", "id", "args"], []],
  C: [["ts", "args"], []],
};

function validate(events: readonly Event[]): void {
  const slices = new Map<string, number>();
  const open = new Set<string>();
  const done = new Set<string>();
  for (const event of events) {
    const { ph, name, pid, tid, ts, dur, id, cat, args } = event;
    const [must, may] = FIELDS[ph] ?? [[], []];
    const keys = Object.keys(event).sort();
    expect(keys).toEqual(expect.arrayContaining([...COMMON, ...must]));
    expect([...COMMON, ...must, ...may]).toEqual(expect.arrayContaining(keys));
    expect(name).toMatch(/./);
    expect(Number.isInteger(pid) && (tid === undefined || Number.isInteger(tid))).toBe(true);
    expect(ts === undefined || (ts >= 0 && Number.isFinite(ts))).toBe(true);
    switch (ph) {
      case "M":
        expect(["process_name", "thread_name"]).toContain(name);
        expect(args?.name).toBeTypeOf("string");
        break;
      case "C":
        for (const value of Object.values(args ?? {})) expect(value).toBeTypeOf("number");
        break;
      case "X": {
        const track = `${pid}/${tid}`;
        expect(dur).toBeGreaterThanOrEqual(0);
        expect(ts).toBeGreaterThanOrEqual(slices.get(track) ?? 0);
        slices.set(track, (ts ?? 0) + (dur ?? 0));
        break;
      }
      default: {
        const key = `${pid}/${cat}/${id}`;
        expect(done.has(key)).toBe(false);
        expect(open.has(key)).toBe(ph === "e");
        if (ph === "b") open.add(key);
        else {
          open.delete(key);
          done.add(key);
        }
      }
    }
  }
  expect(open.size).toBe(0);
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

describe("the Perfetto export", () => {
  it("is what the format asks for, event by event", async () => {
    const events = await exported(LINES, { modes: ["strict", "lazy"] });
    validate(events);
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
    const events = JSON.parse(readFileSync(join(folder, "out.json"), "utf8")) as Event[];
    validate(events);
    expect(events.filter(({ ph }) => ph === "b")).toHaveLength(2000);
  });
});
