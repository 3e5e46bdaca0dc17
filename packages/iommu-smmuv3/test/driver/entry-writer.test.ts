import { SlabMemory, VirtualTimeScheduler } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { CD_RULES, STE_RULES } from "../../src/driver/entry-rules.js";
import { EntryWriter, planUpdate } from "../../src/driver/entry-writer.js";
import { CD } from "../../src/spec/context-descriptor.js";
import { STE } from "../../src/spec/stream-table.js";

const AT = 0x1000;
const s1 = (fields: Parameters<typeof STE.encode>[0] = {}) =>
  STE.encode({ V: true, Config: "s1", S1ContextPtr: 0x4_0000, S1CDMax: 10, S1DSS: "ssid0", EATS: "full", ...fields });
const abort = STE.encode({ V: true, Config: "abort" });
const bypass = STE.encode({ V: true, Config: "bypass", SHCFG: "incoming" });

describe("hitless entry updates (G38, L-8)", () => {
  it("prepares ignored doublewords, then switches with one store", () => {
    const { hitless, values } = planUpdate(abort, s1(), STE_RULES);
    expect(hitless).toBe(true);
    expect(values.map((value) => STE.Config.get(value))).toEqual([0, 5]);
    expect(STE.S1DSS.get(values[0])).toBe(2);
  });

  it("takes bits back only after the switch", () => {
    const { values } = planUpdate(s1(), bypass, STE_RULES);
    expect(values.map((value) => [STE.Config.get(value), STE.EATS.get(value)])).toEqual([
      [5, 1],
      [4, 1],
      [4, 0],
    ]);
  });

  it("goes through V = 0 when two doublewords have to change at once", () => {
    const { hitless, values } = planUpdate(s1(), s1({ S1ContextPtr: 0x8_0000, S1DSS: "bypass" }), STE_RULES);
    expect(hitless).toBe(false);
    expect(values.map((value) => STE.V.get(value))).toEqual([0, 0, 1]);
  });

  it("counts a bit that the target sets and ignores as one that has to change", () => {
    const odd = STE.encode({ V: true, Config: "abort", S2T0SZ: 16 });
    const { hitless, values } = planUpdate(abort, odd, STE_RULES);
    expect(hitless).toBe(true);
    expect(values).toEqual([odd]);
    expect(planUpdate(bypass, odd, STE_RULES).hitless).toBe(false);
  });

  it("changes MEV and EATS at any time (update-safe bits)", () => {
    const { hitless, values } = planUpdate(s1(), s1({ EATS: "abort", MEV: true, S1ContextPtr: 0x8_0000 }), STE_RULES);
    expect(hitless).toBe(true);
    expect(values).toHaveLength(2);
  });

  it("never shows EATS = full beside S2S = 1, which is ILLEGAL (5.2)", () => {
    const s2 = (fields: Parameters<typeof STE.encode>[0]) =>
      STE.encode({ V: true, Config: "s2", S2AA64: true, S2TTB: 0x1000, ...fields });
    const { values } = planUpdate(s2({ S2S: true }), s2({ EATS: "full" }), STE_RULES);
    for (const value of values)
      expect(STE.V.get(value) === 1 && STE.EATS.get(value) === 1 && STE.S2S.get(value) === 1).toBe(false);
  });

  it("exchanges a process's CD for the quiet one without a gap (C9)", () => {
    const live = CD.encode({ V: true, T0SZ: 16, TTB0: 0x1000, AA64: true, S: true, R: true, ASID: 7 });
    const quiet = CD.encode({ V: true, EPD0: true, AA64: true, ASID: 7 });
    const { hitless, values } = planUpdate(live, quiet, CD_RULES);
    expect(hitless).toBe(true);
    expect(values.every((value) => CD.V.get(value) === 1)).toBe(true);
  });

  it("needs no sync when nothing changes", () => {
    expect(planUpdate(bypass, bypass, STE_RULES).values).toEqual([]);
  });

  it("lets other threads run between two stores, and syncs after each value", async () => {
    const memory = new SlabMemory([{ base: AT, size: 0x1000 }]);
    const scheduler = new VirtualTimeScheduler();
    const points: string[] = [];
    scheduler.point = (name) => {
      points.push(name);
      return Promise.resolve();
    };
    const writer = new EntryWriter(memory, scheduler, STE_RULES);
    const seen: number[] = [];
    await scheduler.run(() =>
      writer.write(AT, s1(), async () => {
        seen.push(STE.V.get(writer.read(AT)));
      }),
    );
    expect(seen).toEqual([0, 1]);
    expect(points).toEqual(["entry store", "entry store"]);
    expect(writer.read(AT)).toEqual(s1());
  });

  it("stores every doubleword at once when the variant L-8 overwrites a live entry", async () => {
    const memory = new SlabMemory([{ base: AT, size: 0x1000 }]);
    const scheduler = new VirtualTimeScheduler();
    const writer = new EntryWriter(memory, scheduler, STE_RULES);
    let syncs = 0;
    await scheduler.run(() => writer.overwrite(AT, s1(), async () => void syncs++));
    expect(syncs).toBe(1);
    expect(writer.read(AT)).toEqual(s1());
  });
});
