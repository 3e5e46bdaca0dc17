import { describe, expect, it } from "vitest";
import { conformance } from "../src/conformance.js";
import { Report } from "../src/report.js";
import { suites } from "../src/suites.js";

const VECTORS = new URL("../vectors/peers/", import.meta.url).pathname;

async function run(
  suite: string,
  file: string,
): Promise<{ readonly status: number; readonly lines: readonly string[] }> {
  const lines: string[] = [];
  const status = await conformance([suite, `${VECTORS}${file}`], suites, new Report((line) => lines.push(line)));
  return { status, lines };
}

describe("pci_caps.json", () => {
  it("decodes every capability of 103 real devices as expected, and encodes the same bytes again", async () => {
    const { status, lines } = await run("pci", "pci_caps.json.gz");
    expect(lines.filter((line) => line.startsWith("FAIL")).slice(0, 20)).toEqual([]);
    expect(status).toBe(0);
  });
});

describe("ats_pri_cases.json", () => {
  it("is what both backends do with page requests, responses and stray completions", async () => {
    const { status, lines } = await run("ats", "ats_pri_cases.json.gz");
    expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([]);
    expect(status).toBe(0);
  }, 60_000);
});

describe("iotlb_map_cases.json", () => {
  it("is how VFIO maps and unmaps on both backends, and how a device's cache looks up and invalidates", async () => {
    const { status, lines } = await run("iotlb", "iotlb_map_cases.json.gz");
    expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([]);
    expect(status).toBe(0);
  }, 60_000);
});
