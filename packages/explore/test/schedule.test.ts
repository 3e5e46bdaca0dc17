import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatSchedule, parseSchedule, shrink } from "../src/index.js";

fc.configureGlobal({ seed: 20180511 });

const schedules = fc
  .uniqueArray(fc.nat(500), { maxLength: 20 })
  .chain((at) =>
    fc.tuple(
      fc.constant(at.sort((a, b) => a - b)),
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: at.length, maxLength: at.length }),
    ),
  )
  .map(([at, options]) => new Map(at.map((choice, i) => [choice, options[i]])));

describe("a schedule", () => {
  it("comes back from its text", () => {
    fc.assert(
      fc.property(schedules, (schedule) => {
        expect(parseSchedule(formatSchedule(schedule))).toEqual(schedule);
      }),
    );
  });

  it.each(["1", "1:0", "2:1,1:1", "1:1,1:2", "x:1", "1:1,"])("refuses %s", (text) => {
    expect(() => parseSchedule(text)).toThrow(RangeError);
  });
});

describe("shrink", () => {
  it("keeps exactly the choices without which the rule holds", async () => {
    await fc.assert(
      fc.asyncProperty(schedules, fc.nat(3), async (schedule, count) => {
        const needed = [...schedule.keys()].filter((_, i) => i % 3 === 0).slice(0, count);
        const shrunk = await shrink(schedule, async (tried) => needed.every((at) => tried.has(at)));
        expect([...shrunk.keys()]).toEqual(needed);
      }),
    );
  });
});
