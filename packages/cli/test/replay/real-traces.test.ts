/**
 * Replays of whole traces, the README's small one and real ones: Linux 6.12.117 on a VT-d machine, with its own invalidation
 * events. Totals are those that counting lines gives.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { replay } from "./lines.js";

function lines(name: string): string[] {
  const bytes = readFileSync(new URL(`../../../../${name}`, import.meta.url));
  return (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString().split("\n");
}

const STRICT = "conformance/vectors/qi-trace/linux-6.12.117-amd64-intel-strict.ftrace.gz";
const LAZY = "conformance/vectors/qi-trace/linux-6.12.117-amd64-intel-lazy.ftrace.gz";

const counted = (text: readonly string[], pattern: RegExp) => text.filter((line) => pattern.test(line)).length;

describe.each(["packages/cli/test/examples/trace.txt", STRICT, LAZY])("%s", { timeout: 120_000 }, (name) => {
  it("has as many maps and unmaps as the text", async () => {
    const text = lines(name);
    const { configurations } = await replay(text);
    for (const { total, phases, devices } of configurations) {
      expect(total.maps).toBe(counted(text, /: map: IOMMU:/));
      expect(total.unmaps).toBe(counted(text, /: unmap: IOMMU:/));
      for (const parts of [phases, devices]) expect(parts.reduce((sum, { maps }) => sum + maps, 0)).toBe(total.maps);
    }
  });
});

describe("Linux behind VT-d, strict", () => {
  it("needs the kernel's own number of invalidations", { timeout: 120_000 }, async () => {
    const text = lines(STRICT);
    const { configurations } = await replay(text);
    for (const { total } of configurations) expect(total.waits).toBe(counted(text, /: cache_tag_flush_range: /));
    expect(configurations[1].total.commands).toEqual({ iotlb_inv_dsc: 25_145, inv_wait_dsc: 25_145 });
  });

  it("lazy, flushes about as often as the kernel, whose timer counts jiffies", { timeout: 120_000 }, async () => {
    const text = lines(LAZY);
    const { configurations } = await replay(text, { backends: ["vtd"], modes: ["lazy"] });
    const kernel = counted(text, /: cache_tag_flush_all: /);
    expect(Math.abs(configurations[0].total.invalidations - kernel)).toBeLessThan(kernel / 3);
  });
});
