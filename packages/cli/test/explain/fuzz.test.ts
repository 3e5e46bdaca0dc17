/**
 * Mutated lines of the corpus: no crash, no hang, and nothing decoded that the line does not say. The full run is
 * IOMMUKIT_FUZZ=1000000.
 */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Explainer } from "../../src/explain/explainer.js";
import type { ExplainRecord } from "../../src/explain/record.js";
import { recordJson } from "../../src/explain/render.js";

const FULL = 1_000_000;
const lines = Number(process.env.IOMMUKIT_FUZZ ?? 20_000);
const folder = new URL("./corpus/", import.meta.url);
const seeds = readdirSync(folder).flatMap((file) =>
  (JSON.parse(readFileSync(new URL(file, folder), "utf8")) as { input: string[] }[]).flatMap(({ input }) => input),
);

/** mulberry32: the same lines in every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const PIECES = [
  "0x",
  "[",
  "]",
  ":",
  ".",
  " ",
  "ffffffffffffffff",
  "0",
  "\t",
  "PASID",
  "DMAR:",
  "(XEN)",
  "event",
  "=",
  "é",
  "\u0000",
];

function mutate(pick: (below: number) => number): string {
  let text = seeds[pick(seeds.length)];
  for (let n = pick(4); n > 0; n--) {
    const at = pick(text.length + 1);
    const kind = pick(5);
    if (kind === 0) text = text.slice(0, at) + text.slice(at + 1 + pick(6));
    else if (kind === 1) text = text.slice(0, at) + PIECES[pick(PIECES.length)] + text.slice(at);
    else if (kind === 2) text = text.slice(0, at) + pick(16).toString(16) + text.slice(at + 1);
    else if (kind === 3) text += seeds[pick(seeds.length)].slice(at % 40);
    else text = text.slice(at) + text.slice(0, at);
  }
  return text;
}

/** The digits of every number that a record claims to have read must stand in its lines. */
function invented({ raw, facts }: ExplainRecord): boolean {
  const digits = raw
    .join(" ")
    .toLowerCase()
    .replaceAll(/[^0-9a-f]/g, "");
  const address = facts.address?.toString(16).replace(/^0+|0+$/g, "") ?? "";
  return !digits.includes(address) || (facts.iommu === "smmuv3" && !digits.includes((facts.sid ?? 0).toString(16)));
}

describe("mutated input", () => {
  it(`is taken without a crash, a hang or an invented decode: ${lines} lines`, { timeout: 600_000 }, () => {
    if (lines < FULL) console.info(`fuzz reduced to ${lines} lines; the full run is IOMMUKIT_FUZZ=${FULL}`);
    const pick = random(1);
    const wrong: string[] = [];
    let records = 0;
    const explainer = new Explainer((record) => {
      records++;
      if (invented(record)) wrong.push(record.raw.join("\n"));
      if (records % 16 === 0) JSON.parse(recordJson(record, "-", undefined, true));
    });
    for (let n = 0; n < lines; n++) explainer.line(mutate(pick));
    explainer.end();
    expect(wrong).toEqual([]);
    expect(records).toBeGreaterThan(lines / 20);
  });

  it("of very long lines costs no more than their length", () => {
    const explainer = new Explainer(() => {});
    const started = performance.now();
    for (const piece of ["0x0 ", "a=", "[", "fault ", "00:00.0 ", "l1[000] = ", "IO_PAGE_FAULT device=", "\t"]) {
      explainer.line(piece.repeat(4096 / piece.length));
      explainer.line(piece.repeat(1 << 20));
    }
    expect(performance.now() - started).toBeLessThan(1000);
  });
});
