/** What `iommukit explore --replay` prints, behind both IOMMUs. */
import { readFileSync } from "node:fs";
import { renderTimeline } from "@iommukit/explore";
import { describe, expect, it, vi } from "vitest";
import { show, type Task, type TaskResult } from "../../src/explore/task.js";
import { main } from "../../src/program.js";

const told = async (task: Pick<Task, "scenario" | "backend" | "variants">, schedule: string) =>
  renderTimeline((await show(task, schedule)).timeline).split("\n");

/** The lines below a title, up to the next empty one. */
function section(rows: readonly string[], title: string): readonly string[] {
  expect(rows).toContain(title);
  const from = rows.indexOf(title) + 1;
  return rows.slice(from, rows.indexOf("", from));
}

describe("the deadlock of a detach and an exit (S-2)", () => {
  const words = {
    smmuv3: [/^ {2}STE 0x\w+ of smmuv3$/, /V=1 Config=s1 .*S1ContextPtr=0x/, /^ {2}CD 0x\w+ of smmuv3$/, /V=1 .*ASID=/],
    vtd: [
      /^ {2}Scalable-Mode PASID Table Entry 0x\w+ of vtd$/,
      /P=1 AW=57 PGTT=firstStage/,
      /FSPTPTR=0x/,
      /^ {2}Scalable-Mode Context Entry 0x\w+ of vtd$/,
    ],
  };

  it.each(["smmuv3", "vtd"] as const)("is a timeline with locks and table words behind %s", async (backend) => {
    const rows = await told({ scenario: "exit-detach", backend, variants: ["S-2"] }, "1:1");
    const body = rows.slice(2, rows.indexOf(""));
    expect(body.map((row) => row.slice(0, 58).trimEnd())).toEqual([
      "── exit",
      "   notifier release of mm 4",
      "── close  ← choice 1:1",
      "   takes mmap_lock of pid 3 (owner), and gives it back",
      "   mm 3 has no mappings any more",
      "   takes vfio group 0->group_lock",
      "   takes container->group_lock",
      "   takes iommu->lock",
      "   waits for the bond of 0000:01:00.0 with PASID 1",
      "── exit",
      "   waits for iommu->lock",
    ]);
    expect(rows).toContain("when nothing could go on");
    expect(section(rows, "threads that wait")).toEqual([
      "  close waits for the bond of 0000:01:00.0 with PASID 1",
      "  exit waits for lock iommu->lock (held by close)",
    ]);
    expect(section(rows, "locks")).toContain("  iommu->lock               held by close, wanted by exit");
    const table = section(rows, "table words").join("\n");
    for (const pattern of words[backend]) expect(table).toMatch(new RegExp(pattern.source, "m"));
  });
});

it("stands in the documentation as it is printed", async () => {
  const docs = readFileSync(new URL("../../../../docs/explore.md", import.meta.url), "utf8");
  expect(docs).toContain(
    (await told({ scenario: "exit-detach", backend: "vtd", variants: ["S-2"] }, "1:1")).join("\n"),
  );
});

it("is in --json as data, with the words in hex", async () => {
  const lines: string[] = [];
  vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  const words = ["--backend", "vtd", "--variant", "S-2", "--bound", "0", "--runs", "20", "--threads", "1", "--json"];
  expect(await main(["explore", "exit-detach", ...words])).toBe(1);
  vi.restoreAllMocks();
  const results = JSON.parse(lines.join("\n")) as TaskResult[];
  const timeline = results.find(({ discovery }) => discovery)?.timeline;
  expect(timeline?.lines).toContainEqual({ side: "software", kind: "event", text: "waits for iommu->lock" });
  expect(timeline?.state.locks).toContainEqual({ lock: "iommu->lock", holder: "close", wanted: ["exit"] });
  const [entry] = timeline?.state.entries ?? [];
  expect(entry.address).toMatch(/^0x[0-9a-f]+$/);
  expect(entry.words[0].value).toMatch(/^0x[0-9a-f]{16}$/);
});

describe("a stale translation", () => {
  it("stands in the caches at the moment when it is used (L-10)", async () => {
    const rows = await told({ scenario: "detach-dma", backend: "vtd", variants: ["L-10"] }, "4:1");
    const use = rows.findIndex((row) => row.startsWith("✗ I-1: 0000:01:00.0 wrote 8 bytes"));
    expect(rows[use - 1]).toMatch(/│ {4}0000:01:00.0 writes 8 bytes at 0x\w+ for 0x100000$/);
    expect(rows).toContain("when I-1 was broken");
    const caches = rows.slice(rows.indexOf("caches")).join("\n");
    expect(caches).toMatch(/vtd iotlb: source-id 0x100, 4 KiB at 0x100000 +→ 0x/);
    expect(caches).toMatch(/0000:01:00\.0 ATC: no PASID, 4 KiB at 0x100000 +→ 0x\w+ rw/);
    expect(caches).toMatch(/vtd pasid: source-id 0x100 PASID 1048575 +P=1 AW=57 PGTT=secondStage/);
  });

  it("stands there behind an SMMU as well (L-2)", async () => {
    const rows = await told({ scenario: "attach-unmap", backend: "smmuv3", variants: ["L-2"] }, "1:2");
    expect(rows).toContain("when I-1 was broken");
    const caches = rows.slice(rows.indexOf("caches")).join("\n");
    expect(caches).toMatch(/smmuv3 STE: StreamID 0x200 +Config=s1/);
    expect(caches).toMatch(/0000:02:00\.0 ATC: no PASID, 4 KiB at 0x100000/);
  });
});

it("fits 120 columns, whatever happens", async () => {
  const rows = await told({ scenario: "remove-unmap", backend: "vtd", variants: ["L-24"] }, "0:1");
  expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(120);
  expect(rows).toContain("when no end was in sight");
});
