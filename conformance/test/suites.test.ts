/** Every suite against every file of vectors: which files are whose, and what an altered copy gives. */
import { describe, expect, it } from "vitest";
import { conformance } from "../src/conformance.js";
import { type LoadedFile, loadFile } from "../src/load.js";
import { Report } from "../src/report.js";
import { suites } from "../src/suites.js";

const VECTORS = new URL("../vectors/", import.meta.url).pathname;

/** A file of each kind, and whose it is. */
const OWNERS: Readonly<Record<string, readonly string[]>> = {
  "features/features.json": ["features"],
  "peers/ats_invalidation_cases.json.gz": ["ats"],
  "peers/ats_pri_cases.json.gz": ["ats"],
  "peers/iotlb_lookup_cases.json.gz": ["iotlb"],
  "peers/iotlb_map_cases.json.gz": ["iotlb"],
  "peers/pci_caps.json.gz": ["pci"],
  "peers/pgtable_cases.json.gz": ["page-table"],
  "peers/smmu_device_scripts.json.gz": ["smmu-script"],
  "peers/smmu_emulator_scripts.json.gz": ["smmu-script"],
  "peers/ste_transitions.json.gz": ["ste"],
  "peers/vtd_device_scripts.json.gz": ["vtd-script"],
  "peers/vtd_emulator_scripts.json.gz": ["vtd-script"],
  "qi-trace/linux-6.12.117-amd64-intel-strict.ftrace.gz": ["qi-trace"],
  "vfio/6.12.117-amd64-noiommu.jsonl.gz": ["run", "vfio"],
  "vfio/vfio_cases.json.gz": ["vfio"],
};

const FILES = Object.keys(OWNERS).map((name) => ({ name, file: loadFile(VECTORS + name) }));

const runnerOf = async (suite: string) => {
  const load = suites[suite as keyof typeof suites];
  if (!load) throw new Error(`no suite ${suite}`);
  return load();
};

describe.each(Object.keys(suites))("the suite %s", (suite) => {
  it("recognises its own files and no others", async () => {
    const runner = await runnerOf(suite);
    const own = FILES.filter(({ file }) => runner.recognises(file)).map(({ name }) => name);
    expect(own).toEqual(Object.keys(OWNERS).filter((name) => OWNERS[name].includes(suite)));
  }, 60_000);

  it.each([
    null,
    7,
    [],
    {},
    { cases: [] },
    { cases: [null] },
    { cases: [{}] },
    { cases: {} },
    { devices: [null] },
    { io_pgtable_arm: { selftest: [] } },
    ["  dd-1  [000] d.h1. 1.0: sched_switch: prev=0"],
  ])("does not recognise %j", async (document) => {
    const records = Array.isArray(document) ? document : [document];
    expect((await runnerOf(suite)).recognises({ path: "f", name: "f", document, records })).toBe(false);
  });
});

it("scripts for an SMMUv3 are known by their StreamIDs too, whatever their config says", async () => {
  const translate = { op: "translate", iova: "0x0", expect: "ANY_ERROR" };
  const file = (step: object) => {
    const document = { cases: [{ name: "one", config: { colour: 1 }, steps: [step] }] };
    return { path: "f", name: "f", document, records: [document] };
  };
  const runner = await runnerOf("smmu-script");
  expect([
    runner.recognises(file({ ...translate, sid: 1 })),
    runner.recognises(file({ ...translate, rid: 1 })),
  ]).toEqual([true, false]);
});

it("page tables of a format that no SMMUv3 walks are known, and not compared", async () => {
  const document = { io_pgtable_arm_v7s: { selftest: [{ format: "ARM_V7S" }] } };
  const file = { path: "f", name: "f", document, records: [document] };
  const runner = await runnerOf("page-table");
  const lines: string[] = [];
  const report = new Report((line) => lines.push(line));
  await runner.run([file], report);
  expect([runner.recognises(file), report.finish()]).toEqual([true, 0]);
  expect(lines[0]).toBe("not applicable: 1 × page-table format ARM_V7S: no SMMUv3 walks it");
});

it("a file of another suite is refused in one line", async () => {
  const path = `${VECTORS}peers/pci_caps.json.gz`;
  await expect(conformance(["ste", path], suites as never)).rejects.toThrow(
    `${path} holds no updates of table entries or of the invalidation array`,
  );
});

/** The first cases of a file, one of which is then spoilt. */
async function judge(suite: string, file: LoadedFile) {
  const lines: string[] = [];
  const report = new Report((line) => lines.push(line));
  await (await runnerOf(suite)).run([file], report);
  return { passed: report.passed, failures: lines.filter((line) => line.startsWith("FAIL")) };
}

describe("a case that cannot be read", () => {
  it.each([
    ["ats", "ats_pri_cases", "cases", 2],
    ["iotlb", "iotlb_map_cases", "cases", 1],
    ["pci", "pci_caps", "devices", 1],
    ["smmu-script", "smmu_device_scripts", "cases", 1],
    ["vtd-script", "vtd_device_scripts", "cases", 1],
    ["ste", "ste_transitions", "kunit_transitions", 1],
  ])("is a failure of its own, one line, beside the others: %s", async (suite, name, list, failures) => {
    const file = loadFile(`${VECTORS}peers/${name}.json.gz`);
    const good = (file.document as Record<string, unknown[]>)[list].slice(0, 2);
    const alone = await judge(suite, { ...file, document: { [list]: good } });
    const spoilt = await judge(suite, { ...file, document: { [list]: [null, ...good] } });
    expect(spoilt.passed).toBe(alone.passed);
    expect(spoilt.failures).toHaveLength(failures);
    expect(spoilt.failures.join("")).not.toContain("\n");
  });

  it.each([
    [{ op: "dance", iova: 0, len: 1 }, 'FAIL odd: no operation is called "dance"'],
    [{ op: "map", iova: 0, pa: 0, len: 1e9, prot: "RW" }, "FAIL odd: pages 0+1000000000 are not within 2048"],
    [{ op: "map", iova: "\u001b[31m\n", len: 1 }, "FAIL odd: amount  [31m "],
    [{ op: "unmap", iova: 0.5, len: 1 }, "FAIL odd: cannot be read: "],
  ])("is told in one line, without control characters: iotlb %j", async (step, told) => {
    const file = { path: "f", name: "f", document: { cases: [{ id: "odd", steps: [step] }] }, records: [] };
    const { failures } = await judge("iotlb", file);
    expect(failures).toEqual([expect.stringContaining(told)]);
  });

  it.each([
    ["fault", "[[7,1],[8,1]]"],
    [7, "[[7,1],[8,1]]"],
    [[[7, 2, "RW"]], '[[7,1,"R"],[8,1,"RW"]]'],
    [{ miss: [[0, 2]] }, "[[7,1],[8,1]]"],
    ["ok", undefined],
    [
      [
        [7, 1],
        [8, 1],
      ],
      undefined,
    ],
  ])("is one line with what a lookup found instead of %j: iotlb", async (wanted, found) => {
    const map = (page: number, prot: string) => ({ op: "map", iova: page, pa: page + 7, len: 1, prot });
    const steps = [map(0, "R"), map(1, "RW"), { op: "lookup", iova: 0, len: 2, expect: wanted }];
    const document = { cases: [{ id: "crosvm.one", steps }] };
    const { failures } = await judge("iotlb", { path: "f", name: "f", document, records: [] });
    const line = expect.stringContaining(`: ${found}, expected ${JSON.stringify(wanted)}`);
    for (const failure of failures) expect(failure).toEqual(line);
    expect(failures.length > 0).toBe(found !== undefined);
  });

  it("is a failure of its line in a transcript", async () => {
    const file = loadFile(`${VECTORS}vfio/6.12.117-amd64-noiommu.jsonl.gz`);
    const [header, ...steps] = file.records as Record<string, unknown>[];
    const some = steps.slice(0, 12);
    const alone = await judge("vfio", { ...file, records: [header, ...some] });
    const spoilt = [
      ...some.slice(0, 5),
      null,
      { ...some[5], op: "dance\n" },
      { ...some[5], scenario: 7 },
      ...some.slice(5),
    ];
    const { passed, failures } = await judge("vfio", { ...file, records: [header, ...spoilt] });
    expect(alone.failures).toEqual([]);
    expect(passed).toBe(alone.passed);
    expect(failures).toEqual([
      expect.stringContaining("no step: null"),
      expect.stringContaining('"scenario":7'),
      expect.stringMatching(/does not know: dance ?$/),
    ]);
  });
});
