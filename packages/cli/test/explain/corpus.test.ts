/** Real records with what they mean, worked out apart from the field tables; each keeps where it was published. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { causesOf } from "../../src/explain/causes/causes.js";
import { Explainer } from "../../src/explain/explainer.js";
import type { ExplainRecord } from "../../src/explain/record.js";
import { recordJson } from "../../src/explain/render.js";
import { tableNamed } from "../../src/explain/tables.js";

interface Expected {
  readonly kind: string;
  readonly facts?: Readonly<Record<string, unknown>>;
  readonly fields?: Readonly<Record<string, string>>;
  /** The likeliest cause. */
  readonly cause?: string;
  /** Part of a note. */
  readonly note?: string;
}

interface Entry {
  readonly source: string;
  readonly as?: string;
  readonly input: readonly string[];
  readonly expect: readonly Expected[];
}

const folder = new URL("./corpus/", import.meta.url);
const corpus = readdirSync(folder).flatMap((file) =>
  (JSON.parse(readFileSync(new URL(file, folder), "utf8")) as Entry[]).map((entry, n) => ({
    ...entry,
    name: `${file} ${n}`,
  })),
);

function explained({ as, input }: Pick<Entry, "as" | "input">): ExplainRecord[] {
  const records: ExplainRecord[] = [];
  const explainer = new Explainer((record) => records.push(record), as === undefined ? undefined : tableNamed(as));
  for (const line of input) explainer.line(line);
  explainer.end();
  return records;
}

describe("the corpus", () => {
  it("holds at least 60 real records, each with its source", () => {
    expect(corpus.length).toBeGreaterThanOrEqual(60);
    for (const { source } of corpus) expect(source).not.toBe("");
  });

  it.each(corpus)("$name: $source", (entry) => {
    const records = explained(entry);
    expect(records.map(({ kind }) => kind)).toEqual(entry.expect.map(({ kind }) => kind));
    for (const [n, wanted] of entry.expect.entries()) {
      const record = records[n];
      const json = JSON.parse(recordJson(record, "-", undefined, true)) as { facts: Record<string, unknown> };
      expect(json.facts).toMatchObject(wanted.facts ?? {});
      const { facts = json.facts } = wanted;
      for (const fact of ["pasid", "access", "address", "device"]) expect(json.facts[fact]).toBe(facts[fact]);
      const fields = Object.fromEntries(
        record.parts.flatMap((part) => part.fields).map(({ name, value }) => [name, value]),
      );
      expect(fields).toMatchObject(wanted.fields ?? {});
      expect(causesOf(record.facts).at(0)?.id).toBe(wanted.cause ?? causesOf(record.facts).at(0)?.id);
      expect(record.notes.join("\n")).toContain(wanted.note ?? "");
    }
  });

  it("agrees with the kernel's own words wherever a line has them", () => {
    const faults = corpus.flatMap(explained).filter(({ kind }) => kind === "vtd.dma-fault");
    expect(faults.length).toBeGreaterThan(20);
    expect(faults.flatMap(({ notes }) => notes)).toEqual([]);
    const events = corpus
      .flatMap(explained)
      .filter(({ raw }) => raw.some((line) => /: event: [A-Z_]+ client: /.test(line)));
    expect(events.length).toBeGreaterThan(3);
    expect(events.flatMap(({ notes }) => notes).filter((note) => note.startsWith("the decoded line"))).toEqual([]);
  });

  it("tells where a decoded line and the words beside it disagree", () => {
    const smmu = "arm-smmu-v3 490d0000.iommu";
    const words = ["0x0000030000000010", "0x0000020900000000", "0x00000000fffe0000", "0x0000000000000000"];
    const input = [
      `${smmu}: event 0x10 received:`,
      ...words.map((word) => `${smmu}: \t${word}`),
      `${smmu}: event: F_PERMISSION client: 0000:03:00.0 sid: 0x300 ssid: 0x0 iova: 0xfffe0000 ipa: 0x0`,
      `${smmu}: unpriv data read s1 "CD fetch" stag: 0x0`,
    ];
    const [{ notes }] = explained({ input });
    expect(notes).toContain("the decoded line calls it F_PERMISSION");
    expect(notes).toContain('the decoded line says "CD fetch", the words\' Class is IN');
  });

  it("takes a decoded line of another stream for an event of its own", () => {
    const smmu = "arm-smmu-v3 490d0000.iommu";
    const words = ["0x0000030000000010", "0x0000020900000000", "0x00000000fffe0000", "0x0000000000000000"];
    const input = [
      `${smmu}: event 0x10 received:`,
      ...words.map((word) => `${smmu}: \t${word}`),
      `${smmu}: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0x1000 ipa: 0x0`,
    ];
    expect(explained({ input }).map(({ facts: { sid, device } }) => ({ sid, device }))).toEqual([
      { sid: 0x300, device: undefined },
      { sid: 0x100, device: "0000:01:00.0" },
    ]);
  });
});
