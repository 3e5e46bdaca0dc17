/**
 * How fast a replay is, as a ratio to work of the same kind in the same process: finding the trace's mappings with one regular
 * expression a line. Both in CPU time, warm, the better of several turns, so that other load does not count.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { parseBackend } from "../../src/backends.js";
import { configurations } from "../../src/replay/configuration.js";
import { Replayer } from "../../src/replay/replay.js";

const TRACE = "../../../../conformance/vectors/qi-trace/linux-6.12.117-amd64-intel-strict.ftrace.gz";
const EVENT =
  /(\d+\.\d+): (?:un)?map: IOMMU: iova=0x([0-9a-f]+) - 0x([0-9a-f]+) (?:paddr=0x([0-9a-f]+) )?size=(\d+)(?: unmapped_size=(\d+))?$/;
const EVENTS = 63_631;
const PIECE = 1 << 18;
const TURNS = 3;

function cpu(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

async function timed(body: () => Promise<number>): Promise<number> {
  const start = cpu();
  expect(await body()).toBe(EVENTS);
  return cpu() - start;
}

it("takes both backends less than twenty times as long as a regular expression on each line", {
  timeout: 120_000,
}, async () => {
  const bytes = gunzipSync(readFileSync(new URL(TRACE, import.meta.url)));
  const read = async () => {
    let events = 0;
    for (const line of bytes.toString("latin1").split("\n")) {
      const found = EVENT.exec(line);
      if (found?.slice(2).every((word) => word === undefined || Number.parseInt(word, 16) >= 0)) events++;
    }
    return events;
  };
  const replay = async () => {
    const replayer = await Replayer.start(
      configurations(["smmuv3", "vtd"].map(parseBackend), ["strict"], ["huge"], undefined),
    );
    for (let from = 0; from < bytes.length; ) {
      const end = bytes.lastIndexOf(10, from + PIECE) + 1;
      await replayer.read(bytes.subarray(from, end));
      from = end;
    }
    return replayer.finish().events;
  };
  let reading = Number.POSITIVE_INFINITY;
  let replaying = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < TURNS; turn++) {
    reading = Math.min(reading, await timed(read));
    replaying = Math.min(replaying, await timed(replay));
  }
  expect(replaying / reading).toBeLessThan(20);
});
