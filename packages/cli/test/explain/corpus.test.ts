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
      const json = JSON.parse(recordJson(record, "-", undefined)) as { facts: Record<string, unknown> };
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
  });
});
