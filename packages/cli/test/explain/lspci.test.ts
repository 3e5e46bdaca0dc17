/** lspci output: the bytes of -xxxx and the text of -vvv give the same fields (devices of pciutils' own tests). */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { Explainer } from "../../src/explain/explainer.js";
import type { ExplainRecord } from "../../src/explain/record.js";

interface Device {
  readonly slot: string;
  readonly title: string;
  readonly config_hex: string;
  readonly config_len: number;
  readonly lspci_vvvnn_text_run_here?: readonly string[];
}

const file = new URL("../../../../conformance/vectors/peers/pci_caps.json.gz", import.meta.url);
const { devices } = JSON.parse(gunzipSync(readFileSync(file)).toString()) as { devices: Device[] };
const wanted = ["0000:02:00.0", "0000:e1:00.0", "0000:09:00.0"];
const chosen = devices.filter(
  ({ slot, config_len, lspci_vvvnn_text_run_here: text }) =>
    wanted.includes(slot) && config_len === 4096 && text?.some((line) => /ATSCap|PASIDCap/.test(line)),
);

function explain(lines: readonly string[]): ExplainRecord {
  const records: ExplainRecord[] = [];
  const explainer = new Explainer((record) => records.push(record));
  for (const line of lines) explainer.line(line);
  explainer.end();
  expect(records).toHaveLength(1);
  return records[0];
}

function dump({ slot, title, config_hex: hex }: Device): string[] {
  const rows = Array.from(
    { length: hex.length / 32 },
    (_, n) =>
      `${(n * 16).toString(16).padStart(2, "0")}: ${hex
        .slice(n * 32, n * 32 + 32)
        .replaceAll(/../g, "$& ")
        .trim()}`,
  );
  return [`${slot} ${title}`, ...rows];
}

/** What -vvv prints of these capabilities. */
const PRINTED = [
  "InvalidateQueueDepth",
  "STU",
  "Enable",
  "Stopped",
  "ResponseFailure",
  "OutstandingPageRequestCapacity",
  "OutstandingPageRequestAllocation",
  "ExecutePermissionSupported",
  "PrivilegedModeSupported",
  "MaxPASIDWidth",
  "PASIDEnable",
  "ExecutePermissionEnable",
  "PrivilegedModeEnable",
];

function printed(record: ExplainRecord): Record<string, string> {
  const parts = record.parts.filter(({ table }) => /ATS|PASID|Page Request/.test(table));
  return Object.fromEntries(
    parts.flatMap(({ table, fields }) =>
      fields.filter(({ name }) => PRINTED.includes(name)).map(({ name, value }) => [`${table}.${name}`, value]),
    ),
  );
}

describe("lspci", () => {
  it("has devices with these capabilities to compare", () => expect(chosen.length).toBeGreaterThanOrEqual(3));

  it.each(chosen)("$slot $title: bytes and text agree", (device) => {
    const bytes = printed(explain(dump(device)));
    const text = printed(explain(device.lspci_vvvnn_text_run_here ?? []));
    expect(Object.keys(text).length).toBeGreaterThan(2);
    expect(text).toEqual(bytes);
  });

  it("says that 256 bytes do not show them", () => {
    const device = { ...chosen[0], config_hex: chosen[0].config_hex.slice(0, 512) };
    expect(explain(dump(device)).notes.join()).toContain("lspci -xxxx as root");
  });
});
