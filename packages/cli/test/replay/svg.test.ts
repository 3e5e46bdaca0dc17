/** The picture: every configuration and every figure is in it. */
import { describe, expect, it } from "vitest";
import { replaySvg } from "../../src/replay/svg.js";
import { map, replay, unmap } from "./lines.js";

const lines = [map(0x20_0000, 0x20_0000), unmap(0x20_0000, 0x20_0000), map(0x20_0000)];

describe("a replay as SVG", () => {
  it("has a bar with its value for every figure of every configuration", { timeout: 30_000 }, async () => {
    const result = await replay(lines, { modes: ["strict", "lazy"], access: { pattern: "in-order", seed: 1 } });
    const svg = await replaySvg(result);
    expect(svg).toMatch(/^<svg [\s\S]*<\/svg>$/);
    expect(svg).not.toMatch(/NaN|undefined/);
    const texts = [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text);
    for (const { label, total } of result.configurations) {
      expect(texts.filter((text) => text === label)).toHaveLength(6);
      expect(texts).toContain(String(total.peakTableBytes / 1024));
    }
    expect(svg.match(/aria-roledescription="bar"/g)).toHaveLength(4 * 6);
    expect(texts).toContain("IOTLB hits, %");
  });

  it("says nothing about caches without an access pattern, and is the same each time", async () => {
    const result = await replay(lines);
    const svg = await replaySvg(result);
    expect(svg).not.toContain("IOTLB");
    expect(await replaySvg(result)).toBe(svg);
  });
});
