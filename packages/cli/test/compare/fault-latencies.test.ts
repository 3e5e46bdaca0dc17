/** What a trace of page faults is counted to, event by event, and what the cost model makes of the counts. */
import { Tracer } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { faultPercentiles, faultTime, figures } from "../../src/compare/cost-model.js";
import { FaultLatencies } from "../../src/compare/fault-latencies.js";

const DEVICE = "0000:01:00.0";
const request = { unit: "vtd", rid: 0x100, pasid: 1, address: 0x5000n };

function traced(events: (trace: Tracer) => void) {
  const trace = new Tracer(() => 0);
  const latencies = new FaultLatencies(DEVICE);
  const stop = latencies.listen(trace);
  events(trace);
  stop();
  return latencies.faults;
}

/** A translation request of the device that reads `reads` table entries and finds `access`. */
function translation(trace: Tracer, reads: number, access: number, address = 0x5000n): void {
  trace.emit("tlb:missed", { ...request, unit: DEVICE, address, cache: "ATC" });
  for (let n = 0; n < reads; n++)
    trace.emit("table:read", { unit: "vtd", table: "FS L1", index: 0, address: 0, value: 0n });
  trace.emit("ats:completed", { ...request, address, status: "SUCCESS", size: 4096, access });
}

function asks(trace: Tracer, prgi: number, address = 0x5000n): void {
  trace.emit("pri:requested", { ...request, unit: DEVICE, address, prgi, last: true, access: 1 });
}

function answers(trace: Tracer, prgi: number): void {
  trace.emit("pri:answered", { unit: "vtd", rid: 0x100, pasid: 1, prgi, code: "success" });
}

function waits(trace: Tracer): void {
  trace.emit("command:consumed", { unit: "vtd", command: "inv_wait_dsc", words: [] });
}

describe("a page fault", () => {
  it("counts the reads before and after, and the waits until its answer", () => {
    const faults = traced((trace) => {
      translation(trace, 4, 0);
      asks(trace, 0);
      waits(trace);
      answers(trace, 0);
      waits(trace);
      translation(trace, 5, 1);
    });
    expect(faults).toEqual([{ readsBefore: 4, ahead: 0, waits: 1, readsAfter: 5 }]);
  });

  it("counts the requests that were before it", () => {
    const faults = traced((trace) => {
      for (const [n, address] of [0x5000n, 0x6000n, 0x7000n].entries()) {
        translation(trace, 1, 0, address);
        asks(trace, n, address);
      }
      for (const [n, address] of [0x5000n, 0x6000n, 0x7000n].entries()) {
        answers(trace, n);
        translation(trace, 1, 1, address);
      }
    });
    expect(faults.map(({ ahead }) => ahead)).toEqual([0, 1, 2]);
  });

  it("is none when the translation is there, or when nobody answered", () => {
    expect(traced((trace) => translation(trace, 3, 1))).toEqual([]);
    expect(
      traced((trace) => {
        translation(trace, 3, 0);
        asks(trace, 0);
        translation(trace, 3, 0);
      }),
    ).toEqual([]);
  });
});

describe("the cost model", () => {
  const fault = { readsBefore: 4, ahead: 2, waits: 1, readsAfter: 5 };

  it("adds up counts times figures", () => {
    // 6 messages of 450, 9 reads of 50, 3 handlings of 3000, one wait.
    expect(faultTime("vtd", fault)).toBe(2700 + 450 + 9000 + 6958);
    expect(faultTime("smmuv3", fault)).toBe(2700 + 450 + 9000 + 1111);
  });

  it("takes the percentiles by nearest rank", () => {
    const faults = Array.from({ length: 100 }, (_, n) => ({ readsBefore: n, ahead: 0, waits: 0, readsAfter: 0 }));
    const nanoseconds = (rank: number) => 2700 + 3000 + 50 * (rank - 1);
    expect(faultPercentiles("vtd", faults)).toEqual({
      faults: 100,
      p50: nanoseconds(50),
      p90: nanoseconds(90),
      p99: nanoseconds(99),
      max: nanoseconds(100),
    });
    expect(faultPercentiles("vtd", [])).toBeUndefined();
  });

  it("names measured, paper or assumed and a source for every figure", () => {
    for (const backend of ["smmuv3", "vtd"] as const)
      for (const { origin, source } of figures(backend)) expect([origin, source]).not.toContain("");
  });
});
