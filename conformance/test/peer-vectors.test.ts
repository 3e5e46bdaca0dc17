import { describe, expect, it } from "vitest";
import { playInvalidations } from "../src/ats/invalidation-cases.js";
import { type InvalidationQueue, invalidationQueue, RID } from "../src/ats/invalidation-queues.js";
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

describe.each([
  ["ats", "ats_pri_cases", "is what both backends do with page requests, responses and stray completions"],
  ["ats", "ats_invalidation_cases", "is what both chips' queues do with ATS invalidations"],
  ["iotlb", "iotlb_map_cases", "is how VFIO maps and unmaps, and how a device's cache looks up and invalidates"],
  ["iotlb", "iotlb_lookup_cases", "is what ranges of pages a domain and a device's cache find"],
  ["pci", "pci_caps_more", "is how CardBus bridges, broken chains, cut dumps and fields at random are decoded"],
  ["smmu-script", "smmu_emulator_scripts", "is what the SMMUv3 answers"],
  ["vtd-script", "vtd_emulator_scripts", "is what the VT-d unit answers"],
])("%s: %s.json", (suite, name, what) => {
  it(`${what}`, async () => {
    const { status, lines } = await run(suite, `${name}.json.gz`);
    expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([]);
    expect(status).toBe(0);
  }, 60_000);
});

describe("ATS invalidations of a case that nobody recorded", () => {
  /** A function that completes at once what it is asked to. */
  const eager = (queue: InvalidationQueue) => {
    const push = queue.sent.push.bind(queue.sent);
    queue.sent.push = (...requests) => {
      for (const { itag } of requests) queue.complete(RID, [itag], 1);
      return push(...requests);
    };
    return queue;
  };

  it.each(["smmuv3", "vtd"])("are judged by what must hold on %s", async (backend) => {
    expect(await playInvalidations("cqen=0 while a fence waits", backend)).toBeUndefined();
    const judged = (words: string) => playInvalidations(words, backend, (name) => eager(invalidationQueue(name)));
    expect(await judged("second INVAL")).toBe("ITags 0,0");
    expect(await judged("IOFENCE")).toBe("the fence does not wait");
    expect(await judged("timer expiry")).toBe("no time-out");
    expect(await judged("out of itags")).toBe("34 requests in flight");
  });
});
