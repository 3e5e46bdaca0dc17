/** The commands as a shell sees them: status, standard error, JSON. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { TableJson } from "../src/explain/table-json.js";
import { main } from "../src/program.js";

// The first use of a command loads its code, most of the packages with it.
vi.setConfig({ testTimeout: 30_000 });

let out = "";
let err = "";
let folder = "";

beforeEach(() => {
  out = err = "";
  folder = mkdtempSync(join(tmpdir(), "iommukit-cli-"));
  for (const [stream, take] of [
    [process.stdout, (text: string) => (out += text)],
    [process.stderr, (text: string) => (err += text)],
  ] as const) {
    vi.spyOn(stream, "write").mockImplementation((text) => {
      take(String(text));
      return true;
    });
  }
});

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  rmSync(folder, { recursive: true });
});

function file(text: string): string {
  const path = join(folder, "input.txt");
  writeFileSync(path, text);
  return path;
}

const FAULT =
  "DMAR: [DMA Read PASID 0x2] Request device [6a:01.0] fault addr 0x7fe0c9943000 [fault reason 0x59] SM: Present bit in PASID Table Entry is clear";

describe("iommukit explain", () => {
  it("writes JSON with hex as strings, the raw line beside what it means, and the causes", async () => {
    expect(await main(["explain", "--json", file(FAULT)])).toBe(0);
    const [record] = JSON.parse(out) as Record<string, unknown>[];
    expect(record).toMatchObject({
      kind: "vtd.dma-fault",
      line: 1,
      raw: [FAULT],
      facts: { code: "0x59", pasid: "0x2", address: "0x00007fe0c9943000" },
    });
    expect((record.causes as { id: string }[])[0].id).toBe("vtd-pasid-gone");
    out = "";
    await main(["explain", "--json", "--no-why", file(FAULT)]);
    const { causes: _, ...others } = record;
    expect(JSON.parse(out)).toEqual([others]);
  });

  it("chooses by device and PASID", async () => {
    const input = file(`${FAULT}\n${FAULT.replace("PASID 0x2", "PASID 0x3").replace("6a:01.0", "6a:02.0")}`);
    await main(["explain", "--ndjson", "-s", "6a:02.0", input]);
    expect(out.trim().split("\n")).toHaveLength(1);
    out = "";
    await main(["explain", "--ndjson", "--pasid", "2", input]);
    expect(JSON.parse(out)).toMatchObject({ facts: { device: "0000:6a:01.0" } });
  });

  it("says so, and ends with 1, when nothing is of the chosen device or PASID", async () => {
    expect(await main(["explain", "-s", "01:00.0", file(FAULT)])).toBe(1);
    expect(err).toBe("iommukit: nothing in the input that explain knows is of that device and PASID\n");
    err = "";
    expect(await main(["explain", "--json", "--pasid", "3", file(FAULT)])).toBe(1);
    expect(JSON.parse(out)).toEqual([]);
  });

  it("reports what it does not understand by line, and ends with 1 when it understood nothing", async () => {
    expect(await main(["explain", file("hello\nDMAR: [fault reason zz] what\n")])).toBe(1);
    expect(err).toContain("line 2: not understood");
    expect(err).not.toContain("line 1");
  });

  it("refuses bad input with one line and status 2", async () => {
    for (const words of [
      ["--as", "NOTHING"],
      ["-s", "zz"],
      ["--memory", "x"],
      ["--strtab-base", "0x0"],
      ["/nonexistent/file"],
    ]) {
      err = "";
      expect(await main(["explain", ...words])).toBe(2);
      expect(err.trim().split("\n")).toHaveLength(1);
    }
  });

  it("takes a decoded table to text by every name that it lists", async () => {
    expect(await main(["explain", "--tables"])).toBe(0);
    for (const name of ["smmuv3.STE", "vtd.PASID_ENTRY", "pci.ATS_CAPABILITY", "vfio.DmaMap"])
      expect(out).toContain(name);
  });
});

describe("iommukit replay and doctor", () => {
  it("refuse bad input with status 2", async () => {
    expect(await main(["replay", file("nothing")])).toBe(2);
    expect(await main(["replay", "--pages", "1g", file("nothing")])).toBe(2);
    expect(await main(["replay", "--backend", "vtd:none", file("nothing")])).toBe(2);
    expect(await main(["replay", "--perfetto", "/nonexistent/out.json", file("nothing")])).toBe(2);
    expect(await main(["calibrate", "nothing"])).toBe(2);
    expect(await main(["doctor", "--live", file("nothing")])).toBe(2);
  });

  it("speak JSON", async () => {
    expect(await main(["doctor", "--json", file("intel_iommu=off")])).toBe(1);
    const { verdicts } = JSON.parse(out) as { verdicts: unknown[] };
    expect(verdicts[0]).toMatchObject({ gate: "firmware", result: "unknown" });
    expect(verdicts).toContainEqual(expect.objectContaining({ gate: "command line", result: "fail" }));
    out = "";
    expect(await main(["doctor", "--ndjson", file("intel_iommu=off")])).toBe(1);
    expect(
      out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual(verdicts);
    process.exitCode = undefined;
    out = "";
    const line = "init-1 [000] ..... 1.000001: map: IOMMU: iova=0x10000 - 0x11000 paddr=0x40000000 size=4096";
    expect(await main(["replay", "--json", "--backend", "vtd", "--access", "in-order", file(line)])).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ events: 1, configurations: [{ label: "vtd", total: { maps: 1 } }] });
    out = "";
    expect(await main(["calibrate", "hypersio", "--json"])).toBe(0);
    expect(JSON.parse(out)).toMatchObject([
      { name: "hypersio", findings: [{ model: 24 }, { model: 2100, unit: "ns" }] },
    ]);
  });

  it("replay says how fast it was", async () => {
    const line = "init-1 [000] ..... 1.000001: map: IOMMU: iova=0x10000 - 0x11000 paddr=0x40000000 size=4096";
    expect(await main(["replay", "--timing", file(line)])).toBe(0);
    const [all, parts, end] = err.split("\n");
    expect(all).toMatch(/^1 events in \d+\.\d{3} s, \d+ events\/s; CPU \d+\.\d{3} s, \d+ events\/s; \d+ MB$/);
    expect(parts.replaceAll(/\d+\.\d{3} s(, \d+ events\/s)?/g, "_")).toBe("start _; text _; smmuv3 _; vtd _");
    expect(end).toBe("");
  });

  it("replay writes a file for Perfetto beside its report", async () => {
    const line = "init-1 [000] ..... 1.000001: map: IOMMU: iova=0x10000 - 0x11000 paddr=0x40000000 size=4096";
    const path = join(folder, "out.json");
    expect(await main(["replay", "--perfetto", path, file(line)])).toBe(0);
    expect(out).toContain("1 events");
    const written = JSON.parse(readFileSync(path, "utf8")) as { ph: string }[];
    expect(written.filter(({ ph }) => ph === "b")).toHaveLength(1);
  });
});

describe("every command", () => {
  const one = () => err.trimEnd().split("\n").length === 1 && err !== "";

  it.each([
    [[], "a command is wanted; iommukit --help lists them"],
    [["--"], "a command is wanted"],
    [["help", "nosuch"], 'there is no command "nosuch"'],
    [["expain"], "unknown command 'expain' (Did you mean explain?)"],
    [["explain", "--json=1"], "unknown option '--json=1' (Did you mean --json?)"],
    [["explain", "--json", "--ndjson", "x"], "--ndjson"],
    [["doctor", "--json", "--ndjson", "x"], "--ndjson"],
    [["replay", "--json", "--format", "md", "x"], "--format"],
    [["compare", "--json", "--format", "md"], "--format"],
    [["compare", "--json", "--ndjson"], "--ndjson"],
    [["compare", "--simulated", "--mib", "1", "--trace", "/dev/full"], "cannot write /dev/full: ENOSPC"],
    [["explore", "exit-detach", "--all"], '--all and scenario "exit-detach" exclude each other'],
    [["explore", "--list", "--all"], "--list and --all exclude each other"],
    [["explore", "--shipped", "--variant", "S-2"], "--shipped and --variant exclude each other"],
    [["explore", "--all", "--replay", "1:1"], "--all and --replay exclude each other"],
    [
      ["explore", "exit-detach", "--backend", "vtd", "--replay", "1:99"],
      'schedule "1:99": there is no 1:99, choice 1 has ',
    ],
    [["explore", "exit-detach", "--backend", "vtd", "--replay", "99999:1"], "there is no 99999:1, the run has "],
    [["explore", "--list", "--shard", "1/2"], "--list and --shard exclude each other"],
    [["explore", "--all", "--shard", "1/2"], "--all and --shard exclude each other"],
    [["explore", "exit-detach", "--replay", "1:1", "--runs", "5"], "--replay and --runs exclude each other"],
    [["explain", "--tables", "x"], "--tables and files exclude each other"],
    [["replay", "--seed", "5", "x"], "--seed needs --access random"],
    [["explore", "exit-detach", "--bound", "1000000"], "a whole number from 0 to 64"],
    [["explore", "exit-detach", "--threads", "1e9"], "a whole number from 1 to 1024"],
  ])("refuses what contradicts itself or cannot be, in one line: %j", async (words, says) => {
    expect(await main(words)).toBe(2);
    expect(err).toContain(says);
    expect(err).toMatch(/^iommukit: /);
    expect(one()).toBe(true);
    expect(out).toBe("");
  });

  const task = { scenario: "exit-detach", backend: "vtd", variants: [], search: { kind: "random" } };
  const counts = { schedules: 1, milliseconds: 1 };
  const found = { schedule: "1:1", found: 1, shrunk: 1, findings: [{ rule: "leak", what: "a page" }] };
  const broken = [
    { task, schedules: 1 },
    { task: { ...task, search: null }, ...counts },
    { task: { ...task, search: { kind: "other" } }, ...counts },
    { task: { ...task, scenario: "another version's" }, ...counts },
    { task: { ...task, backend: "amd-vi" }, ...counts },
    { task: { ...task, variants: ["L-999"] }, ...counts },
    { task, ...counts, discovery: {} },
    { task, ...counts, discovery: { ...found, schedule: "x" } },
    { task, ...counts, discovery: { ...found, findings: [] } },
    { task, ...counts, discovery: { ...found, findings: [null] } },
  ].map((result) => JSON.stringify([result]));

  it.each(["{}", "null", "[]", "[null]", "[{}]", '[{"task":{}}]', "no JSON", ...broken])(
    "explore --merge refuses %s, which is no output of explore",
    async (text) => {
      expect(await main(["explore", "--merge", file(text)])).toBe(2);
      expect(err).toContain("is no output of explore --json");
      expect(one()).toBe(true);
    },
  );

  it("doctor ends with 1 when it knows nothing of the input", async () => {
    expect(await main(["doctor", file("hello\ntry to boot with intel_iommu=on\n")])).toBe(1);
    expect(err).toBe("iommukit: nothing in the input that doctor knows\n");
  });

  it("explain gives its tables as JSON, with every bit in a field", async () => {
    expect(await main(["explain", "--tables", "--json"])).toBe(0);
    const tables = JSON.parse(out) as TableJson[];
    const cap = tables.find(({ name }) => name === "vtd.CAP");
    expect(cap).toMatchObject({
      bits: 64,
      title: "CAP",
      section: expect.stringMatching(/^VT-d 11/) as string,
      offset: "0x8",
    });
    expect(cap?.fields[0]).toMatchObject({ name: "ND", bits: "2:0", kind: "uint", access: "ro" });
    const config = tables.find(({ name }) => name === "smmuv3.STE")?.fields.find(({ name }) => name === "Config");
    expect(config).toMatchObject({ bits: "3:1", values: expect.objectContaining({ abort: 0 }) as object });
    const widths = tables.map(({ fields }) =>
      fields.map(({ bits }) => bits.split(":").map(Number)).reduce((sum, [msb, lsb = msb]) => sum + msb - lsb + 1, 0),
    );
    expect(widths).toEqual(tables.map(({ bits }) => bits));
    out = "";
    expect(await main(["explain", "--tables", "--ndjson"])).toBe(0);
    expect(
      out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as TableJson),
    ).toEqual(tables);
  });
});
