import { describe, expect, it } from "vitest";
import type { VtdMode } from "../src/oracle/vtd/board.js";
import type { VtdCase } from "../src/oracle/vtd/cases.js";
import type { EntryRead, Outcome } from "../src/oracle/vtd/model.js";
import { type Expectation, expectedOfQemu, quirks, withWidth } from "../src/oracle/vtd/quirks.js";

const IOVA = 0x1234_5000n;
const SID = 0x18n;

function given(over: Partial<VtdCase> = {}): VtdCase {
  return { stores: [], iova: IOVA, write: false, path: [], context: 1n, directory: 1n, target: 0x1800_0000, ...over };
}

function record(reason: number, write = false, address = IOVA): readonly [bigint, bigint] {
  return [address, (1n << 63n) | (write ? 0n : 1n << 62n) | (BigInt(reason) << 32n) | SID];
}

function outcome(reason: number, over: Partial<Outcome> = {}): Outcome {
  return {
    reason,
    record: reason === 0 ? [0n, 0n] : record(reason),
    pa: reason === 0 ? 0x1800_0000 : -1,
    reads: [],
    ...over,
  };
}

/** Entries from level `values.length` down, at 0x1000, 0x2000, … */
function reads(...values: bigint[]): EntryRead[] {
  return values.map((value, index) => ({ address: (index + 1) * 0x1000, level: values.length - index, value }));
}

function apply(name: string, mode: VtdMode, of: VtdCase, expected: Expectation): Expectation {
  const quirk = quirks.find((each) => each.name === name);
  if (!quirk) throw new Error(`no quirk ${name}`);
  return quirk.apply(mode, of, expected);
}

describe("QEMU's quirks", () => {
  it("leave a case without any of them as the model answers it", () => {
    const model = { outcome: outcome(0, { reads: reads(3n, 3n, 3n, 3n) }), entries: [] };
    expect(expectedOfQemu("legacy", given(), model)).toEqual(model);
  });

  it("second-stage permission first: before reserved bits at the same entry and below", () => {
    const of = given({ write: true });
    const model = { outcome: outcome(0x0c, { reads: reads(3n, 1n, 0x803n), record: record(0x0c, true) }), entries: [] };
    expect(apply("second-stage permission first", "legacy", of, model).outcome.record).toEqual(record(0x05, true));
    const permitted = { outcome: outcome(0x0c, { reads: reads(3n, 3n, 0x803n) }), entries: [] };
    expect(apply("second-stage permission first", "legacy", of, permitted)).toBe(permitted);
  });

  it("first-stage permission first: before a not-present entry below, and nothing is marked from there on", () => {
    const path = reads(7n, 3n, 0n).map(({ address, level, value }) => ({ level, pa: address, value }));
    const model = { outcome: outcome(0x71, { reads: reads(7n, 3n, 0n) }), entries: [0x27n, 0x23n, 0n] };
    const expected = apply("first-stage permission first", "fs", given({ path }), model);
    expect(expected.outcome.record).toEqual(record(0x81));
    expect(expected.entries).toEqual([0x27n, 3n, 0n]);
  });

  it("accessed or dirty, not both: a leaf with one of them stays", () => {
    const path = [{ level: 1, pa: 0x1000, value: 0x27n }];
    const model = { outcome: outcome(0, { reads: reads(0x27n) }), entries: [0x67n] };
    expect(apply("accessed or dirty, not both", "fs", given({ path, write: true }), model).entries).toEqual([0x27n]);
    const clean = { outcome: outcome(0, { reads: reads(7n) }), entries: [0x67n] };
    expect(apply("accessed or dirty, not both", "fs", given({ path, write: true }), clean)).toBe(clean);
  });

  it("marked in the interrupt range", () => {
    const path = [{ level: 1, pa: 0x1000, value: 0xfee0_0007n }];
    const model = { outcome: outcome(0x87, { reads: reads(0xfee0_0007n) }), entries: [0xfee0_0007n] };
    expect(apply("marked in the interrupt range", "fs", given({ path, write: true }), model).entries).toEqual([
      0xfee0_0067n,
    ]);
    expect(apply("marked in the interrupt range", "fs", given({ path }), model).entries).toEqual([0xfee0_0027n]);
  });

  it("legacy codes in scalable mode", () => {
    for (const [architecture, qemu] of [
      [0x39, 0x01],
      [0x41, 0x02],
      [0x42, 0x0b],
      [0x3a, 0x0a],
      [0x7a, 0x0c],
      [0x78, 0x07],
      [0x7b, 0x03],
      [0x84, 0x04],
    ] as const) {
      const model = { outcome: outcome(architecture), entries: [] };
      expect(apply("legacy codes in scalable mode", "ss", given(), model).outcome.record).toEqual(record(qemu));
      expect(apply("legacy codes in scalable mode", "legacy", given(), model)).toBe(model);
    }
  });

  it("legacy codes keep a fault that FPD suppressed out of the record", () => {
    const model = { outcome: outcome(0x41, { record: [0n, 0n] }), entries: [] };
    expect(apply("legacy codes in scalable mode", "ss", given(), model).outcome.record).toEqual([0n, 0n]);
  });

  it("pass-through without a limit", () => {
    const far = given({ iova: 1n << 50n, context: 9n });
    const model = { outcome: outcome(0x04), entries: [] };
    expect(apply("pass-through without a limit", "legacy", far, model).outcome).toMatchObject({
      reason: 0,
      record: [0n, 0n],
      pa: 2 ** 50,
    });
    expect(apply("pass-through without a limit", "legacy", given({ iova: 1n << 50n }), model)).toBe(model);
  });

  it("reserved context bits in spite of FPD", () => {
    const model = { outcome: outcome(0x0b, { record: [0n, 0n] }), entries: [] };
    expect(apply("reserved context bits in spite of FPD", "legacy", given(), model).outcome.record).toEqual(
      record(0x0b),
    );
  });

  it("FPD of the directory comes late", () => {
    const model = { outcome: outcome(0x59, { record: [0n, 0n] }), entries: [] };
    expect(apply("FPD of the directory comes late", "ss", given({ directory: 3n }), model).outcome.record).toEqual(
      record(0x59),
    );
    expect(apply("FPD of the directory comes late", "ss", given({ directory: 3n, context: 3n }), model)).toBe(model);
  });

  it("table pointer of pass-through", () => {
    const of = given({ context: (1n << 50n) | 9n });
    expect(
      apply("table pointer of pass-through", "legacy", of, { outcome: outcome(0), entries: [] }).outcome.record,
    ).toEqual(record(0x0b));
  });

  it("fault address is not cut", () => {
    const far = given({ iova: (1n << 60n) | IOVA });
    const expected = apply("fault address is not cut", "legacy", far, { outcome: outcome(0x04), entries: [] });
    expect(expected.outcome.record).toEqual(record(0x04, false, (1n << 60n) | IOVA));
  });

  it("take the width of the first stage from AW", () => {
    expect(withWidth(0x41n)).toBe(0x49n);
  });

  it("each have a test here", () => {
    expect(quirks.map(({ name }) => name)).toEqual([
      "second-stage permission first",
      "first-stage permission first",
      "accessed or dirty, not both",
      "marked in the interrupt range",
      "legacy codes in scalable mode",
      "pass-through without a limit",
      "reserved context bits in spite of FPD",
      "FPD of the directory comes late",
      "table pointer of pass-through",
      "fault address is not cut",
    ]);
  });
});
