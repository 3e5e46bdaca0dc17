/** A trace's length does not matter: what a replay keeps depends only on what is mapped at the same time. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { parseBackend } from "../../src/backends.js";
import { configurations } from "../../src/replay/configuration.js";
import { Replayer } from "../../src/replay/replay.js";
import { map, phase, unmap } from "./lines.js";

const MAPPINGS = 64;

/** Maps and unmaps of a ring of addresses, 64 mapped at any time. */
function* events(count: number): Generator<string> {
  for (let n = 0; n < count; n++) {
    const iova = (at: number) => 0x1000_0000 + (at % (4 * MAPPINGS)) * 0x20_0000;
    if (n >= MAPPINGS) yield unmap(iova(n - MAPPINGS), 0x2000);
    yield map(iova(n), 0x2000);
  }
}

function retained(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().heapUsed;
}

it("keeps no more after 60,000 events than after 20,000", { timeout: 60_000 }, async () => {
  const columns = configurations(["smmuv3", "vtd"].map(parseBackend), ["strict", "lazy"], ["huge"], undefined);
  const replayer = await Replayer.start(columns);
  const feed = async (count: number) => {
    await replayer.read(Buffer.from(`${phase("more")}\n`));
    let text = "";
    let lines = 0;
    for (const line of events(count)) {
      text += `${line}\n`;
      if (++lines % 2048 > 0) continue;
      await replayer.read(Buffer.from(text));
      text = "";
    }
    for (let n = count - MAPPINGS; n < count; n++)
      text += `${unmap(0x1000_0000 + (n % (4 * MAPPINGS)) * 0x20_0000, 0x2000)}\n`;
    await replayer.read(Buffer.from(text));
  };
  await feed(10_000);
  const before = retained();
  await feed(20_000);
  expect(retained() - before).toBeLessThan(1_000_000);
  const { events: total, spaces } = replayer.finish();
  expect([total, spaces]).toEqual([60_000, 1]);
});
