/** Walks over tables as Linux's debugfs prints them; what the files do not print is not made up. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { UsageError } from "../../src/errors.js";
import { Explainer } from "../../src/explain/explainer.js";
import type { ExplainRecord } from "../../src/explain/record.js";
import { DebugfsDump } from "../../src/explain/walk/debugfs-dump.js";
import type { Walk } from "../../src/explain/walk/step.js";
import { walkFor } from "../../src/explain/walk/walk.js";

let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-dump-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

const LEGACY = [
  "IOMMU dmar1: Root Table Address: 0x103027000",
  "B.D.F   Root_entry\t\t\t\tContext_entry\t\t\t\tPASID   PASID_table_entry",
  "00:02.0 0x0000000000000000:0x000000010303e001 0x0000000000000102:0x00000001017f8001 -1 0x0000000000000000:0x0000000000000000:0x0000000000000000",
];

const SCALABLE = [
  "IOMMU dmar0: Root Table Address: 0x103028000",
  "B.D.F   Root_entry\t\t\t\tContext_entry\t\t\t\tPASID   PASID_table_entry",
  "00:0a.0 0x0000000000000000:0x00000001038a7001 0x0000000000000001:0x0000000103220e7d 1 0x0000000000000000:0x0000000000800002:0x000000010c112089",
];

const heading =
  "IOVA_PFN                PML5E                   PML4E                   PDPE                    PDE                     PTE";
const LEGACY_PAGES = [
  "Device 0000:00:02.0 @0x1017f8000",
  heading,
  "0x000000008d800 |\t0x0000000000000000\t0x00000001017f9003\t0x00000001017fa003\t0x00000001017fb003\t0x000000008d800001",
];
const SCALABLE_PAGES = [
  "Device 0000:00:0a.0 with pasid 1 @0x10c112000",
  heading,
  "0x0000000000000 |\t0x0000000000000000\t0x000000010df93003\t0x0000000106ae6003\t0x0000000104b38003\t0x0000000147c00803",
];

function walk(fault: string, ...files: readonly (readonly string[])[]): Walk | undefined {
  const dump = new DebugfsDump();
  for (const [n, lines] of files.entries()) {
    const path = join(folder, `${n}.txt`);
    writeFileSync(path, `${lines.join("\n")}\n`);
    dump.add(path);
  }
  const records: ExplainRecord[] = [];
  const explainer = new Explainer((record) => records.push(record));
  explainer.line(fault);
  explainer.end();
  const memory = { read64: () => undefined };
  return walkFor(records[0], { memory, dump, rtaddr: undefined, strtab: undefined });
}

const fault = (type: string, device: string, address: string, pasid = "NO_PASID") =>
  `DMAR: [DMA ${type} ${pasid}] Request device [${device}] fault addr ${address} [fault reason 0x05] PTE Write access is not set`;

describe("tables from debugfs", () => {
  it("are walked to the page that is listed, each entry where it lies", () => {
    const found = walk(fault("Read", "00:02.0", "0x8d800000"), LEGACY, LEGACY_PAGES);
    expect(found?.steps.map(({ name, address, words }) => `${name} @ ${address} = ${words[0]}`)).toEqual([
      "root[000] @ 0x103027000 = 0x000000010303e001",
      "context[010] @ 0x10303e100 = 0x00000001017f8001",
      "L4[000] @ 0x1017f8000 = 0x00000001017f9003",
      "L3[002] @ 0x1017f9010 = 0x00000001017fa003",
      "L2[06c] @ 0x1017fa360 = 0x00000001017fb003",
      "L1[000] @ 0x1017fb000 = 0x000000008d800001",
    ]);
    expect(found?.output).toBe("0x8d800000");
  });

  it("say which entry refuses the write", () => {
    expect(walk(fault("Write", "00:02.0", "0x8d800000"), LEGACY, LEGACY_PAGES)?.verdict).toBe(
      "stops: level 1 entry does not allow the write (fault 0x05)",
    );
  });

  it("say of an address whose page is not listed that it is not mapped, and show no entry that nobody printed", () => {
    const found = walk(fault("Read", "00:02.0", "0x8d801000"), LEGACY, LEGACY_PAGES);
    expect(found?.steps.at(-1)?.name).toBe("L2[06c]");
    expect(found?.verdict).toBe("stops: the dump lists no page below the entry at 0x1017fb008: not mapped");
  });

  it("without the pages end where the files end", () => {
    expect(walk(fault("Read", "00:02.0", "0x8d800000"), LEGACY)?.verdict).toBe(
      "L4[000] @ 0x1017f8000 is in no --memory image",
    );
  });

  it("go to a PASID's entry without its directory, which no file prints", () => {
    const found = walk(fault("Read", "00:0a.0", "0x123", "PASID 0x1"), SCALABLE, SCALABLE_PAGES);
    expect(found?.steps.map(({ name, address }) => `${name} @ ${address}`).slice(0, 3)).toEqual([
      "root[000] @ 0x103028000",
      "context[050] @ 0x1038a7a00",
      "PASID entry[001] @ unknown",
    ]);
    expect(found?.output).toBe("0x147c00123");
    expect(walk(fault("Read", "00:0a.0", "0x123", "PASID 0x2"), SCALABLE, SCALABLE_PAGES)?.verdict).toBe(
      "stops: the dump lists no entry of PASID 0x2 (fault 0x59)",
    );
  });

  it("say nothing of a device that is not in them", () => {
    expect(walk(fault("Read", "00:1f.0", "0x123"), LEGACY)).toBeUndefined();
  });

  it("are refused when the file has none", () => {
    expect(() => walk(fault("Read", "00:02.0", "0x0"), ["hello"])).toThrow(UsageError);
  });
});
